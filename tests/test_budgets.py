"""Budgets of lines, blank ones and docstrings included: what is read in one sitting stays that short.

    python tests/test_budgets.py        prints them
"""

from __future__ import annotations

from pathlib import Path

import pytest

import sparsenet
from sparsenet.kernels.table import names

PACKAGE = Path(sparsenet.__file__).parent
A_KERNEL = 12  # of the specification
A_PAGE = 300  # of ops/: one operation, or a few of a kind, forward, backward and the public function
BUDGETS = {"kernels/reference.py": A_KERNEL * len(names()), "autograd.py": 380,
           **{f"ops/{path.name}": A_PAGE for path in sorted((PACKAGE / "ops").glob("*.py"))}}


def told(name: str) -> tuple[int, str]:
    """The lines of a file, and a line that tells them beside its budget."""
    lines = len((PACKAGE / name).read_text(encoding="utf-8").splitlines())
    more = f" ({len(names())} kernels, {A_KERNEL} each)" if name.startswith("kernels/") else ""
    return lines, f"{name:32} {lines:5} lines of {BUDGETS[name]}{more}"


@pytest.mark.parametrize("name", BUDGETS)
def test_a_file_keeps_to_its_budget(name):
    lines, line = told(name)
    print(line)
    assert lines <= BUDGETS[name], line


if __name__ == "__main__":
    print(*(told(name)[1] for name in BUDGETS), sep="\n")
