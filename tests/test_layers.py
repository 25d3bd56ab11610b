"""The parts of the package import downward only: each row of LAYERS from the rows above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sparsenet

PACKAGE = Path(sparsenet.__file__).parent
# "sparsenet" is the package itself: what `from sparsenet import SparseTensor` asks.
LAYERS = (
    ("hdf5", "interrupts", "worker_processes"), ("hdf5_output",),
    ("backend", "files", "lock", "notebook", "random", "toml", "wording"), ("destination", "kernels"),
    ("autograd", "layer_stack"), ("anomaly", "named_parameters"),
    ("gradcheck", "moving_average", "optimizer", "parameter_groups", "schedules", "sparse"), ("adam", "sgd"),
    ("optim",), ("ops",), ("nn",), ("sparsenet",), ("shapes",), ("data",), ("inspect",), ("export",),
    ("retrieval", "segmentation"), ("training",), ("models", "reproduction"),
    ("info", "quickstart", "selfcheck", "serve", "teach"), ("cli",), ("__main__",))
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: list[str]) -> str:
    """The part that a module belongs to, by its dotted name."""
    own = [name for name in module[1:] if name != "__init__"]
    return own[0] if own and ((PACKAGE / own[0]).is_dir() or (PACKAGE / f"{own[0]}.py").is_file()) else "sparsenet"


def imports(tree: ast.AST) -> list[list[str]]:
    """Names of what a module imports from the package, at its top or within functions, not for type checking."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found += [[*node.module.split("."), alias.name] for alias in node.names]
    return [name for name in found if name[0] == "sparsenet"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_from_below(path):
    own = part_of(["sparsenet", *path.relative_to(PACKAGE).with_suffix("").parts])
    assert own in LEVEL, f"{own} has no place in LAYERS: give it one"
    upward = {part_of(name) for name in imports(ast.parse(path.read_text(encoding="utf-8")))} - {own}
    upward = {part for part in upward if LEVEL[part] >= LEVEL[own]}
    assert not upward, f"{own} imports {', '.join(sorted(upward))}, which is not below it"
