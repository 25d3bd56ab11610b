"""`sparsenet make-dataset`: its arguments, output and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import ENVIRONMENT, invoke, words

from sparsenet.cli import main as command_line
from sparsenet.data import SparseDataset
from sparsenet.kernels.cpu import numba_cache

if os.name == "posix":
    import resource

TETRAHEDRON = "OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def call(*arguments: object, encoding: str = "utf-8", preexec_fn: Callable | None = None
         ) -> subprocess.CompletedProcess:
    return invoke("make-dataset", *arguments, encoding=encoding, env=ENVIRONMENT | {"PYTHONIOENCODING": encoding},
                     preexec_fn=preexec_fn)


def test_help_has_examples():
    result = call("--help")
    assert result.returncode == 0 and "examples:" in result.stdout
    for source in ("folder", "psb", "modelnet40-voxels", "modelnet10-voxels", "csv", "builtin"):
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
    assert result.stdout.startswith(f"{tmp_path / 'x.h5'}: 1 sample")
    assert "chair      1" in result.stdout and "layout: class/split (guessed" in result.stdout
    assert "left out 1 file or folder that cannot be used" in result.stderr and "bad.off" in result.stderr
    assert "voxelize" not in result.stderr  # a bar, on what is not a terminal
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert dataset.render_size == 12 and dataset.has_meshes
    result = call("folder", tmp_path / "tree", tmp_path / "y.h5", *options, "--strict", "--quiet")
    assert result.returncode == 1 and not (tmp_path / "y.h5").exists()
    assert result.stderr.startswith("sparsenet make-dataset: error: import: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(("arguments", "code", "message"), [
    ((), 2, "required: SOURCE"), (("folder", "x"), 2, "required: OUTPUT"),
    (("folder", "x", "y", "--render-size", "0"), 2, "not a positive whole number"),
    (("folder", "absent", "y.h5"), 1, "sparsenet make-dataset: error: import: folder absent does not exist"),
    (("csv", "absent.csv", "y.h5"), 1, "sparsenet make-dataset: error: absent.csv: No such file"),
])
def test_errors_are_one_line_without_a_traceback(arguments: tuple, code: int, message: str):
    result = call(*arguments)
    assert result.returncode == code and message in result.stderr
    assert "Traceback" not in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1


def main(*arguments: object) -> int:
    """The command in this process."""
    return command_line(["make-dataset", *map(str, arguments)])


def plant(folder: Path, **meshes: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in meshes.items():
        (folder / f"{name}.off").write_text(text)
    return folder


def test_quiet_is_quiet_but_for_warnings(tmp_path: Path, capsys):
    home = plant(tmp_path / "tree/chair", good=TETRAHEDRON)
    options = ("--render-size", 8, "--processes", 1, "--quiet")
    assert main("folder", tmp_path / "tree", tmp_path / "x.h5", *options) == 0
    assert capsys.readouterr() == ("", "")
    (home / "bad.off").write_text("nothing")
    assert main("folder", tmp_path / "tree", tmp_path / "x.h5", *options) == 0
    said = capsys.readouterr()
    assert said.out == "" and "bad.off" in said.err


def test_names_that_the_console_cannot_show_are_escaped(tmp_path: Path):
    plant(tmp_path / "tree/T\xfcr", good=TETRAHEDRON, **{"\u6905": "nothing"})
    result = call("folder", tmp_path / "tree", tmp_path / "x.h5", "--render-size", 8, "--processes", 1,
                  encoding="ascii")
    assert result.returncode == 0 and "\\u6905.off" in result.stderr and "T\\xfcr" in result.stdout


@pytest.mark.parametrize(("options", "classes", "axis"), [
    (("--layout", "class"), ["train"], "auto"), (("--up-axis", "y"), ["chair"], "y"),
    (("--unlabelled", "--up-axis", "z"), [], "z")])
def test_layouts_axes_and_unlabelled_meshes_are_options(tmp_path: Path, options: tuple, classes: list, axis: str):
    plant(tmp_path / "tree/train/chair", a=TETRAHEDRON)
    assert main("folder", tmp_path / "tree", tmp_path / "x.h5", "--render-size", 8, "--processes", 1, *options) == 0
    with SparseDataset.open(tmp_path / "x.h5") as dataset:
        assert (dataset.classes, dataset.up_axis) == (classes, axis)


def test_a_table_may_lack_labels(tmp_path: Path, capsys):
    plant(tmp_path / "tree", a=TETRAHEDRON)
    (tmp_path / "list.csv").write_text("path\ntree/a.off\n")
    assert main("csv", tmp_path / "list.csv", tmp_path / "x.h5", "--render-size", 8, "--processes", 1, "--up-axis",
                "y") == 0
    assert "no column label: unlabelled" in capsys.readouterr().out


@pytest.mark.parametrize(("kept", "options", "said"), [
    (False, (), "compiling kernels for this processor: the first mesh takes a few seconds more\n"), (True, (), ""),
    (False, ("--quiet",), "")])
def test_the_first_mesh_says_that_kernels_are_being_compiled(tmp_path: Path, monkeypatch, capsys, kept: bool,
                                                            options: tuple, said: str):
    monkeypatch.setattr(numba_cache, "is_kept", lambda family: kept or family != "voxels")
    plant(tmp_path / "tree/chair", a=TETRAHEDRON)
    main("folder", tmp_path / "tree", tmp_path / "x.h5", "--render-size", 8, "--processes", 1, *options)
    assert capsys.readouterr().err == said


posix = pytest.mark.skipif(os.name != "posix", reason="sends signals to processes")
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="lists processes in /proc")


def running(group: int) -> list[int]:
    """The processes of a group that are not merely waiting to be noticed as ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, process_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):  # no process, or one that has just gone
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(entry.name))
    return found


def wait_until_gone(group: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while running(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(group) == []


def begin(folder: Path, processes: int, wait: float) -> subprocess.Popen:
    """A tool in a process group of its own, some seconds after it began to write `folder/x.h5`."""
    (folder / "x.h5").write_text("the old file")
    command = words("make-dataset", "builtin", folder / "x.h5", "--train", 5000, "--processes", processes)
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
                            start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(wait)
    return tool


@posix
@pytest.mark.parametrize(("number", "whole_group", "code", "word", "processes", "wait"), [
    (signal.SIGINT, True, 130, b"interrupted", 1, 1), (signal.SIGTERM, False, 143, b"terminated", 1, 1),
    (signal.SIGINT, True, 130, b"interrupted", 2, 0.2), (signal.SIGTERM, True, 143, b"terminated", 2, 0.2),
    (signal.SIGINT, True, 130, b"interrupted", 2, 2), (signal.SIGTERM, False, 143, b"terminated", 2, 2),
    (signal.SIGTERM, True, 143, b"terminated", 2, 2)])  # 0.2 s: while processes start
def test_an_interruption_leaves_the_old_file_and_no_part(tmp_path: Path, number: int, whole_group: bool, code: int,
                                                        word: bytes, processes: int, wait: float):
    tool = begin(tmp_path, processes, wait)
    (os.killpg if whole_group else os.kill)(tool.pid, number)
    _, errors = tool.communicate(timeout=60)
    assert tool.returncode == code and b"make-dataset: " + word in errors and b"Traceback" not in errors
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.h5", "the old file")]


@posix
@linux
@pytest.mark.parametrize("wait", [0, 2])
def test_a_killed_tool_takes_its_processes_with_it(tmp_path: Path, wait: float):
    tool = begin(tmp_path, 2, 0)
    while len(running(tool.pid)) < 3 and tool.poll() is None:  # the tool, what tracks its resources, a first one
        time.sleep(0.02)
    time.sleep(wait)
    tool.kill()
    tool.communicate(timeout=30)  # returns when nobody holds the pipe any more
    wait_until_gone(tool.pid, 30)
    assert (tmp_path / "x.h5").read_text() == "the old file" and len(list(tmp_path.iterdir())) == 2
    result = call("builtin", tmp_path / "y.h5", "--train", 1, "--test", 1, "--render-size", 4, "--processes", 1)
    assert result.returncode == 0 and sorted(path.name for path in tmp_path.iterdir()) == ["x.h5", "y.h5"]


@posix
@linux
def test_a_worker_that_dies_is_one_error(tmp_path: Path):
    tool = begin(tmp_path, 2, 2)
    for process in running(tool.pid):
        if "spawn_main" in Path(f"/proc/{process}/cmdline").read_text():
            os.kill(process, signal.SIGKILL)
    _, errors = tool.communicate(timeout=60)
    assert tool.returncode == 1 and b"sparsenet make-dataset: error: import: a spawned process died" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    wait_until_gone(tool.pid, 5)  # what tracks its resources ends after it


@posix
def test_a_full_disk_is_one_error(tmp_path: Path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # exceeding it is an error then, as a full disk is
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = call("builtin", tmp_path / "x.h5", "--train", 40, "--processes", 2, preexec_fn=limit)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"sparsenet make-dataset: error: {tmp_path / 'x.h5'}: File too large\n"
    assert list(tmp_path.iterdir()) == []
