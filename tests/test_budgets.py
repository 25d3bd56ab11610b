"""Budgets of lines, blank ones and docstrings included: what is read in one sitting stays that short.  And of the
positional arguments of compiled functions, which take named tuples if they need more.

    python tests/test_budgets.py        prints them
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sparsenet
from sparsenet.kernels.table import names

PACKAGE = Path(sparsenet.__file__).parent
A_KERNEL = 12  # of the specification: its formula, on average over all families
A_PAGE = 300  # of ops/: one operation, or a few of a kind, forward, backward and the public function
MOST_ARGUMENTS = 9
COMPILERS = {"compiled", "njit", "overload", "intrinsic"}  # decorators
BUDGETS = {"autograd.py": 380, **{f"ops/{path.name}": A_PAGE for path in sorted((PACKAGE / "ops").glob("*.py"))}}


def told(name: str) -> tuple[int, str]:
    """The lines of a file, and a line that tells them beside its budget."""
    lines = len((PACKAGE / name).read_text(encoding="utf-8").splitlines())
    return lines, f"{name:32} {lines:5} lines of {BUDGETS[name]}"


def formula_lines() -> int:
    """The lines of all families' formulas, without the docstrings and imports at the heads of their files."""
    total = 0
    for path in sorted((PACKAGE / "kernels").glob("*/reference.py")):
        text = path.read_text(encoding="utf-8")
        head = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
        total += len("\n".join(text.splitlines()[head[-1].end_lineno:]).strip().splitlines())
    return total


def told_formulas() -> tuple[int, int, str]:
    """The lines of all formulas, their budget, and a line that tells both."""
    lines, limit = formula_lines(), A_KERNEL * len(names())
    return lines, limit, f"{'kernels/*/reference.py':32} {lines:5} lines of {limit} ({len(names())} kernels)"


def test_the_formulas_keep_to_their_budget():
    lines, limit, line = told_formulas()
    print(line)
    assert lines <= limit, line


@pytest.mark.parametrize("name", BUDGETS)
def test_a_file_keeps_to_its_budget(name):
    lines, line = told(name)
    print(line)
    assert lines <= BUDGETS[name], line


def compiled_functions(tree: ast.AST, within: bool = False) -> Iterator[tuple[str, int]]:
    """The functions that Numba compiles, those within an overload too, and how many positional arguments each takes."""
    for node in ast.iter_child_nodes(tree):
        own = within
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            words = {getattr(part, "id", getattr(part, "attr", None)) for one in getattr(node, "decorator_list", ())
                     for part in ast.walk(one)}
            own = within or bool(words & COMPILERS)
            if own:
                yield getattr(node, "name", "lambda"), len(node.args.posonlyargs) + len(node.args.args)
        yield from compiled_functions(node, own)


def test_compiled_functions_take_few_arguments():
    found = {f"{path.relative_to(PACKAGE).as_posix()} {name}": count for path in sorted(PACKAGE.rglob("*.py"))
             for name, count in compiled_functions(ast.parse(path.read_text(encoding="utf-8")))}
    assert {"kernels/rulebook/loops.py find_pairs", "kernels/cpu/row_products.py add_strip"} <= set(found)
    many = {name: count for name, count in found.items() if count > MOST_ARGUMENTS}
    assert not many, f"more than {MOST_ARGUMENTS} positional arguments: group what belongs together in a named tuple"


@pytest.mark.parametrize("text", ["@compiled\ndef f({}): pass", "@numba.njit(nogil=True)\ndef f({}): pass",
                                  "@overload(g)\ndef g_of(x):\n    return lambda {}: x"])
def test_one_that_takes_more_would_be_found(text):
    names = ", ".join(f"x{i}" for i in range(MOST_ARGUMENTS + 1))
    assert max(count for _, count in compiled_functions(ast.parse(text.format(names)))) == MOST_ARGUMENTS + 1
    assert not list(compiled_functions(ast.parse(f"@cache\ndef f({names}): pass")))


if __name__ == "__main__":
    print(told_formulas()[2], *(told(name)[1] for name in BUDGETS), sep="\n")
