"""Modules import one another in circles nowhere but in the few places named here, however late an import is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sparsenet

PACKAGE = Path(sparsenet.__file__).parent
# The first two exist for the type checker alone, which sees the class of Tensor's operators as a base of Tensor; a
# dataset is the facade of those that prepare and load its samples.
TYPES_ONLY = (
    {"autograd", "sparse", "sparse.row_functions", "sparse.tensor"} | {f"ops.{name}" for name in (
        "activations", "arguments", "arithmetic", "cast", "comparison", "elementwise", "exponentials", "methods",
        "operands", "reductions", "shaping")},
    {"sparse.rulebook", "sparse.sites"})
FACADE = {"data.dataset", "data.holdout", "data.loader", "data.preparation"}


def modules(package: Path) -> dict[str, Path]:
    """Each module's file by its name below the package; a package's own is that of its __init__."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path], for_types: bool) -> set[str]:
    """The modules that a file imports, at its top or within functions; with `for_types` those for type checking too."""
    found, waiting = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not for_types:
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("sparsenet.") in known else node.module for name in names]
        else:
            continue
        found |= {name.removeprefix("sparsenet").lstrip(".") for name in names if name.split(".")[0] == "sparsenet"}
    return found & set(known)


def circles(package: Path, for_types: bool = True) -> list[set[str]]:
    """The groups of modules of which each reaches each other one by imports."""
    known = modules(package)
    reached = {name: imported(path, known, for_types) - {name} for name, path in known.items()}
    changed = True
    while changed:
        changed = False
        for name, others in reached.items():
            more = others.union(*(reached[other] for other in others))
            changed |= more != others
            reached[name] = more
    groups = {frozenset(other for other in others if name in reached[other])
              for name, others in reached.items() if name in others}
    return [set(group) for group in groups]


def test_there_are_no_other_circles():
    unknown = [group for group in circles(PACKAGE) if not any(group <= known for known in (*TYPES_ONLY, FACADE))]
    assert not unknown, f"a circle of imports: {unknown}: move what both need into a module of its own"


def test_those_for_types_are_for_types_alone():
    assert all(group <= FACADE for group in circles(PACKAGE, for_types=False))


@pytest.mark.parametrize("late", ["", "def f():\n    ", "if TYPE_CHECKING:\n    "])
def test_a_circle_would_be_found(tmp_path, late):
    for name, line in (("a", "from sparsenet.b import x"), ("b", "import sparsenet.c"),
                       ("c", f"{late}from sparsenet import a"), ("d", "from sparsenet.a import y")):
        (tmp_path / f"{name}.py").write_text(f"{line}\n")
    assert circles(tmp_path) == [{"a", "b", "c"}]
    assert circles(tmp_path, for_types=False) == ([] if "TYPE" in late else [{"a", "b", "c"}])
