"""The tool: what a user types, sees, and gets back as exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparsenet.data import SparseDataset

TOOL = Path(__file__).parents[2] / "tools/make_dataset.py"
TETRAHEDRON = "OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def call(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True,
                          env=ENVIRONMENT, check=False, timeout=120)


def test_help_has_examples():
    result = call("--help")
    assert result.returncode == 0 and "examples:" in result.stdout
    for source in ("folder", "psb", "modelnet40-voxels", "csv", "builtin"):
        assert source in result.stdout
    assert "example:" in call("psb", "--help").stdout


def test_a_folder_becomes_a_file(tmp_path: Path):
    home = tmp_path / "tree/chair/train"
    home.mkdir(parents=True)
    (home / "good.off").write_text(TETRAHEDRON)
    (home / "bad.off").write_text("nothing")
    options = ("--render-size", 12, "--keep-meshes", "--processes", 1)
    result = call("folder", tmp_path / "tree", tmp_path / "x.h5", *options)
    assert result.returncode == 0
    assert result.stdout.startswith(f"{tmp_path / 'x.h5'}: 1 samples")
    assert "voxelize" in result.stderr and "left out 1 unreadable meshes" in result.stderr
    assert "bad.off" in result.stderr
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert dataset.render_size == 12 and dataset.has_meshes
    result = call("folder", tmp_path / "tree", tmp_path / "y.h5", *options, "--strict", "--quiet")
    assert result.returncode == 1 and not (tmp_path / "y.h5").exists()
    assert result.stderr.startswith("make_dataset: error: import: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(("arguments", "code", "message"), [
    ((), 2, "required: SOURCE"), (("folder", "x"), 2, "required: OUTPUT"),
    (("folder", "x", "y", "--render-size", "0"), 2, "no positive whole number"),
    (("folder", "absent", "y.h5"), 1, "make_dataset: error: import: there is no folder absent"),
    (("csv", "absent.csv", "y.h5"), 1, "make_dataset: error: absent.csv: No such file"),
])
def test_errors_are_one_line_without_a_traceback(arguments: tuple, code: int, message: str):
    result = call(*arguments)
    assert result.returncode == code and message in result.stderr
    assert "Traceback" not in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process group, as a terminal does")
@pytest.mark.parametrize(("processes", "wait"), [(1, 1), (2, 0.2), (2, 2)])  # 0.2 s: while processes start
def test_ctrl_c_leaves_the_old_file_and_no_part(tmp_path: Path, processes: int, wait: float):
    (tmp_path / "x.h5").write_text("the old file")
    command = [sys.executable, str(TOOL), "builtin", str(tmp_path / "x.h5"), "--train", "5000",
               "--processes", str(processes)]
    tool = subprocess.Popen(command, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(wait)
    os.killpg(tool.pid, signal.SIGINT)
    _, errors = tool.communicate(timeout=60)
    assert tool.returncode == 130 and b"make_dataset: interrupted" in errors and b"Traceback" not in errors
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.h5", "the old file")]
