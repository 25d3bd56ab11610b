"""The house of the kernels: families keep to themselves, and the CPU's half runs without the GPU's."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sparsenet
from sparsenet.kernels import find
from sparsenet.kernels.table import names

PACKAGE = Path(sparsenet.__file__).parent
FOLDERS = {path.parent.name for path in (PACKAGE / "kernels").glob("*/__init__.py")}
FAMILIES = FOLDERS - {"cpu", "cuda"}
STEP = """
import sys
from pathlib import Path
import sparsenet as sn
from small_runs import TEXT, make, run
from sparsenet.training.config import parse_config

folder = Path(sys.argv[1])
path = make(folder / "shapes.h5", train=9, test=3)
network = sn.s3dcnn(num_classes=3, channels=(4, 6, 8))
with sn.SparseDataset.open(path) as dataset:
    batch = next(iter(dataset.batches(4, field=network.field, workers=1)))
    sn.ops.softmax_cross_entropy(network(batch), batch.labels).backward()
sn.optim.SGD(network.parameters(), 0.1, momentum=0.9).step()
if "train" in sys.argv:
    run(parse_config(TEXT.format(path=path), "test", ["training.epochs=1"]), folder / "out")
print(*(name for name in sys.modules if name.startswith("sparsenet.kernels.")))
"""


def is_module(parts: list[str]) -> bool:
    path = PACKAGE.parent.joinpath(*parts)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def modules_imported(path: Path) -> set[tuple[str, ...]]:
    """The modules of kernels that a file imports, at its top or within functions, by their names below kernels."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            listed = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            listed = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in listed:
            parts = name.split(".")
            while parts and not is_module(parts):
                parts.pop()  # a name within the module
            if parts[:2] == ["sparsenet", "kernels"] and len(parts) > 2:
                found.add(tuple(parts[2:]))
    return found


def is_loader(own: tuple[str, ...], module: tuple[str, ...]) -> bool:
    """Whether this is the one file that imports all contracts, so that they declare their kernels."""
    return own == ("kernels", "__init__.py") and module[1:] == ("contract",)


def offences(path: Path) -> list[str]:
    """The imports of a file that break the rules of the house.  A formula may use those of other families, as a text
    refers to its other chapters."""
    own = path.relative_to(PACKAGE).parts
    folder = own[1] if own[0] == "kernels" and len(own) == 3 else None
    found = []
    for module in sorted(modules_imported(path)):
        name = ".".join(module)
        of_formulas = own[-1] == "reference.py" and folder is not None and module[1:] == ("reference",)
        if len(module) > 1 and module[0] in FAMILIES - {folder} and not (of_formulas or is_loader(own, module)):
            found.append(f"{name}: the inside of a family, use what its __init__ exports or launch a kernel")
        if folder == "cpu" and module[:1] != ("cpu",) and module[0] in FOLDERS:
            found.append(f"{name}: the machinery of the CPU serves families, it uses none")
        if folder == "cuda" and module[0] in FOLDERS - {"cuda"}:
            found.append(f"{name}: the machinery of CUDA serves families, it uses none")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_reaches_into_a_family(path):
    assert not offences(path)


@pytest.mark.parametrize(("place", "line"), [
    ("nn/module.py", "from sparsenet.kernels.rows import samples"),
    ("nn/module.py", "from sparsenet.kernels.rows.cpu import segment_sum_cpu"),
    ("kernels/norm/cpu.py", "import sparsenet.kernels.rows.cpu"),
    ("kernels/norm/cpu.py", "from sparsenet.kernels.rows.reference import segment_sum"),
    ("kernels/norm/reference.py", "from sparsenet.kernels.rows.cpu import segment_sum_cpu"),
    ("kernels/norm/contract.py", "from sparsenet.kernels.rows.contract import SEGMENT_SUM"),
    ("nn/module.py", "import sparsenet.kernels.rows.contract"),
    ("kernels/cpu/threads.py", "from sparsenet.kernels.rows import cpu"),
    ("kernels/cuda/source.py", "from sparsenet.kernels.cpu import threads"),
])
def test_one_that_did_would_be_found(place, line, monkeypatch, tmp_path):
    other = tmp_path / place
    other.parent.mkdir(parents=True)
    other.write_text(f"def late():\n    {line}\n")
    found = modules_imported(other)
    monkeypatch.setitem(globals(), "modules_imported", lambda path: found)
    assert offences(PACKAGE / place)


def test_each_family_has_kernels_and_a_module_for_each_backend():
    families = {find(name).modules["cpu"].partition(".")[0] for name in names()}
    assert families == FAMILIES
    for family in families:
        assert all((PACKAGE / "kernels" / family / f"{part}.py").is_file()
                   for part in ("contract", "reference", "cpu", "cuda"))


def test_each_family_says_what_it_holds():
    for folder in FOLDERS:
        text = ast.get_docstring(ast.parse((PACKAGE / "kernels" / folder / "__init__.py").read_text(encoding="utf-8")))
        assert text and len(text.splitlines()) <= 12, folder


@pytest.mark.parametrize("words", [(), ("train",)], ids=["step", "training"])
def test_on_a_cpu_nothing_of_cudas_half_is_imported(words, tmp_path):
    """Forward, backward and a step of SGD, through the loader; and a whole training."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), str(Path(__file__).parents[1])])}
    done = subprocess.run([sys.executable, "-c", STEP, str(tmp_path), *words], env=environment, capture_output=True,
                          text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert {"sparsenet.kernels.convolution.cpu", "sparsenet.kernels.optim.cpu"} <= set(loaded)
    assert not [name for name in loaded if "cuda" in name.split(".")]
