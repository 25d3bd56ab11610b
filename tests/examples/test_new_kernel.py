"""The template of a kernel, begun in a copy of the clone: it passes its own tests and those that count kernels."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sparsenet

ROOT = Path(__file__).parents[2]
COPIED = ("benchmarks", "configs", "docs", "examples", "tests", "mkdocs.yml", "pyproject.toml")
NAME = "half_shrink"
TESTS = ("tests/kernels/test_half_shrink.py", "tests/nn/test_half_shrink.py", "tests/kernels/test_house.py",
         "tests/kernels/test_table.py", "tests/kernels/test_cold_start.py", "tests/kernels/test_precompile.py",
         "tests/benchmarks/test_kernel.py", "tests/test_layers.py")
CHOSEN = f"{NAME} or each_family or every_family or every_source"


def start_module():
    spec = importlib.util.spec_from_file_location("start_kernel", ROOT / "examples" / "new_kernel" / "start.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def start():
    yield start_module()
    del sys.modules["start_kernel"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory, start):
    """A copy of the repository in which the kernel was begun."""
    folder, ignored = tmp_path_factory.mktemp("clone"), shutil.ignore_patterns("__pycache__", "*.h5", "results")
    for name in COPIED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, folder / name, **({"ignore": ignored} if (ROOT / name).is_dir() else {}))
    shutil.copytree(Path(sparsenet.__file__).parent, folder / "sparsenet", ignore=ignored)
    assert start.main([NAME, "--clone", str(folder)]) == 0
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, "-P", "-m", *words], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=900, check=False)


def test_it_passes_its_tests_and_those_of_all_kernels(clone):
    done = run(clone, "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN, *TESTS)
    assert done.returncode == 0, done.stdout[-4000:]
    passed = int(done.stdout.split(" passed")[0].split()[-1])
    assert passed > 60, done.stdout[-1000:]


def test_it_is_benchmarked(clone):
    done = run(clone, "sparsenet", "benchmark", "kernel", f"{NAME}_backward", "--sizes", "40", "--repeats", "1",
               "--backends", "reference", "cpu")
    assert done.returncode == 0, done.stderr
    assert "half_shrink_backward(x, gradient, limit): out = gradient if |x| > limit" in done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines() if line.split()[:1] == ["40"]] == [
        ["40", "reference"], ["40", "cpu"]]


def test_nothing_of_the_template_s_name_is_left(clone, start):
    for path in start.new_files(clone, NAME):
        text = path.read_text(encoding="utf-8").lower()
        assert "soft" not in text and "half shrink" in text.replace("_", " "), path


@pytest.mark.parametrize(("name", "message"), [
    (NAME, "half_shrink: there is benchmarks/inputs/half_shrink.py already: take another name"),
    ("HalfShrink", "HalfShrink: expected a name in lower case, such as hard_shrink"),
    ("../x", "expected a name in lower case"),
], ids=["a second time", "not in lower case", "a path"])
def test_names_that_cannot_be_taken(clone, start, name, message, capsys):
    with pytest.raises(SystemExit):
        start.main([name, "--clone", str(clone)])
    assert message in capsys.readouterr().err


def test_a_file_without_the_place_of_a_line_is_told_before_anything_is_written(clone, start, tmp_path):
    other = tmp_path / "clone"
    for line in start.LINES:
        (other / line.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clone / line.file, other / line.file)
    (other / "mkdocs.yml").write_text("nav: []\n")
    with pytest.raises(ValueError, match=r"mkdocs.yml: no line begins with .*kernels/sum_pool.md.*: mend LINES"):
        start.main(["other_shrink", "--clone", str(other)])
    assert not (other / "sparsenet" / "kernels" / "other_shrink").exists()
