"""The puzzles: templates that fail with help, answers that pass, wrong answers that are told their fault."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from teach.wrong_answers import WRONG

from sparsenet.kernels.cuda.source import CudaSource
from sparsenet.teach import judge
from sparsenet.teach.cuda_host.host_driver import HostDriver
from sparsenet.teach.puzzle import Puzzle, Wrong, find, puzzle_of
from sparsenet.teach.puzzles import CUDA, NAMES, NUMPY


@pytest.fixture(autouse=True)
def compiler(request) -> None:
    """CUDA puzzles need a C++ compiler."""
    if getattr(request.node, "callspec", None) and request.node.callspec.params.get("name") in CUDA:
        try:
            HostDriver().close()
        except RuntimeError as error:
            pytest.skip(str(error))


def check(puzzle: Puzzle, path: Path, seconds: int = 1) -> str:
    """As `Puzzle.check`, but Python runs in this process."""
    if puzzle.name in NUMPY and puzzle.template != path.read_text(encoding="utf-8"):
        return judge.judge(puzzle.name, path)
    return puzzle.check(path, seconds)


@pytest.fixture
def write(tmp_path):
    """write(puzzle, text): a learner's file."""
    def write(puzzle: Puzzle, text: str) -> Path:
        path = tmp_path / puzzle.file_name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("name", NAMES)
class TestEachPuzzle:
    def test_has_a_statement_hints_and_a_template_without_the_answer(self, name):
        puzzle = find(name)
        assert len(puzzle.hints) >= 2 and len(puzzle.title) < 60 and not puzzle.title.endswith(".")
        assert puzzle.holes and all(hole.strip() and hole not in puzzle.template for hole in puzzle.holes)
        assert puzzle.template.startswith(f"{puzzle.comment} sparsenet puzzle: {name}\n")
        assert max(map(len, puzzle.template.splitlines())) <= 120

    def test_the_template_is_told_where_its_hole_is(self, name, write):
        puzzle = find(name)
        path = write(puzzle, puzzle.template)
        with pytest.raises(Wrong, match="the hole at line") as told:
            check(puzzle, path)
        line = int(re.search(r"line (\d+)", str(told.value))[1])
        assert "---- your code" in path.read_text("utf-8").splitlines()[line - 1]

    def test_the_answer_in_the_template_is_right(self, name, write):
        puzzle = find(name)
        path = write(puzzle, puzzle.template.partition("\n\n")[0] + "\n\n" + puzzle.solution)
        assert re.match(r"\d+ (cases|launches)", check(puzzle, path)) and puzzle_of(path) is puzzle


@pytest.mark.parametrize(("name", "words", "wrong", "message"), [
    (name, *one) for name, answers in WRONG.items() for one in answers])
def test_a_wrong_answer_is_told_what_is_wrong(name, words, wrong, message, write):
    puzzle = find(name)
    assert words in puzzle.solution
    with pytest.raises(Wrong, match=message):
        check(puzzle, write(puzzle, puzzle.solution.replace(words, wrong)))


def test_each_puzzle_has_wrong_answers():
    assert set(WRONG) == set(NAMES)


class TestPythonRunsInAProcessOfItsOwn:
    @pytest.mark.parametrize(("code", "seconds", "message"), [
        ("while True: pass", 1, "endless loop.*after 1 seconds, and was at line 4: `while True: pass`"),
        ("import os; os._exit(3)", 60, "ended with exit code 3 before"),
        ("raise SystemExit(0)", 60, "line 4 of offsets.py, `raise SystemExit.0.`: SystemExit"),
    ])
    def test_what_ends_it_is_told(self, write, code, seconds, message):
        puzzle = find("offsets")
        with pytest.raises(Wrong, match=message):
            puzzle.check(write(puzzle, f"import numpy\n\ndef offsets(kernel_size):\n    {code}\n"), seconds)

    def test_what_it_prints_is_shown(self, write, capfd):
        puzzle = find("offsets")
        path = write(puzzle, "import numpy as np\nprint('here')\n" + puzzle.solution)
        assert puzzle.check(path, 60) == "5 cases" and capfd.readouterr().out == "here\n"


class TestPython:
    @pytest.mark.parametrize(("text", "message"), [
        ("def offsets(kernel_size:\n    pass\n", "line 1 of offsets.py: '.' was never closed\n    def offsets"),
        ("def other(kernel_size):\n    pass\n", "has no function named offsets"),
        ("def offsets(kernel_size):\n    pass\n", "returns None: does each of its ways end with return"),
        ("def offsets(kernel_size):\n    return [[0.0], [1.0], [2.0]]\n", "dtype float64, expected whole numbers"),
        ("def offsets(kernel_size):\n    return [[0], [1, 2]]\n", "rows of different lengths"),
        ("def offsets(kernel_size):\n    return [[0], [1]]\n", r"shape \(2, 1\), expected \(3, 1\): \(2,\) is missing"),
        ("x = [][0]\n", "line 1 of offsets.py, `x = .*`: IndexError"),
    ])
    def test_a_fault_is_told_with_its_line(self, write, text, message):
        with pytest.raises(Wrong, match=message):
            judge.judge("offsets", write(find("offsets"), text))

    def test_arguments_are_not_to_be_changed(self, write):
        keys = find("keys")
        text = keys.solution.replace("    return result", "    coordinates[:] = 0\n    return result")
        with pytest.raises(Wrong, match="the function changes its argument coordinates: work on a copy"):
            judge.judge("keys", write(keys, text))

    def test_lists_are_as_good_as_arrays(self, write):
        puzzle = find("outputs")
        text = puzzle.solution.replace("np.unique(cells[inside], axis=0)", "sorted({*map(tuple, cells[inside])})")
        assert judge.judge("outputs", write(puzzle, text)) == "6 cases"
        with pytest.raises(Wrong, match="lie outside the output grid"):
            judge.judge("outputs", write(puzzle, text.replace("cells[inside]", "cells")))

    def test_an_empty_file_and_a_file_of_no_puzzle(self, write, tmp_path):
        with pytest.raises(Wrong, match="is empty: remove it"):
            find("keys").check(write(find("keys"), "\n"), 1)
        (tmp_path / "mine.py").write_text("x = 1\n")
        with pytest.raises(ValueError, match="no puzzle is named 'mine'"):
            puzzle_of(tmp_path / "mine.py")
        with pytest.raises(ValueError, match="there is no puzzle 'nothing', expected one of offsets, "):
            find("nothing")


@pytest.mark.parametrize("name", ["scale"])
class TestCuda:
    def told(self, name, write, code: str) -> str:
        puzzle = find(name)
        text = puzzle.solution.replace("    if (i < size) y[i] = a * x[i];\n", f"    {code}\n")
        with pytest.raises(Wrong) as told:
            puzzle.check(write(puzzle, text), 1)
        return str(told.value)

    @pytest.mark.parametrize(("code", "message"), [
        ("if (i < size) y[i] = a * x[i]", r"scale.cu:\d+:\d+: error: expected .;."),
        ("if (i < size) atomicAdd(&y[i], a);", "line 4 of scale.cu does not compile: atomicAdd is for integers"),
        ("for (;;) {}", "endless loop: thread 0 of block 0 had not ended after 1 seconds.*\n    line 4: for"),
        ("if (i < size) y[i] = 3 / (size - size);", "division by zero: thread 0 of block 0.*\n    line 4: if"),
        ("float* p = 0; *p = a;", "writes at an address that is far from all arrays.*\n    line 4: float"),
    ])
    def test_what_goes_wrong_is_told(self, name, write, code, message):
        assert re.search(message, self.told(name, write, code))

    def test_another_signature_is_refused(self, name, write):
        puzzle = find(name)
        with pytest.raises(Wrong, match=r"has another kernel scale, expected\n    extern .C. __global__ void scale\("):
            puzzle.check(write(puzzle, puzzle.solution.replace("float a", "double a")), 1)
        with pytest.raises(Wrong, match="has no kernel scale"):
            puzzle.check(write(puzzle, puzzle.solution.replace("void scale", "void other")), 1)

    def test_printf_shows_once_what_a_thread_prints(self, name, write, capsys):
        puzzle = find(name)
        text = puzzle.solution.replace("    if (i", '    if (i == 69) printf("thread %d\\n", i);\n    if (i')
        assert puzzle.check(write(puzzle, text), 5).startswith("3 launches")
        assert capsys.readouterr().out == "thread 69\n"

    def test_the_first_check_says_why_it_takes_long(self, name, write, monkeypatch, capsys):
        puzzle = find(name)
        for ready, words in ((False, "Compiling the host executor, once: this takes some seconds.\n"), (True, "")):
            monkeypatch.setattr(HostDriver, "is_ready", lambda driver, ready=ready: ready)
            puzzle.check(write(puzzle, puzzle.solution), 5)
            assert capsys.readouterr().err == words

    def test_a_missing_compiler_is_asked_for_by_name(self, name, write, monkeypatch):
        monkeypatch.setattr("sparsenet.teach.cuda_host.host_driver.COMPILER", "g++-missing")
        puzzle = find(name)
        with pytest.raises(RuntimeError, match=r"there is no g\+\+-missing: install .*: apt install g\+\+"):
            puzzle.check(write(puzzle, puzzle.solution), 1)


@pytest.mark.extra("kernel-test")
@pytest.mark.parametrize("name", CUDA)
def test_the_answer_compiles_for_a_gpu_too(name):
    from cuda_host import nvrtc

    source = CudaSource("solution", Path(find_spec(find(name).module).origin).parent)
    assert set(nvrtc.compile_kernels(source.kernel(name), 80)) == {name}


def test_the_page_lists_the_puzzles():
    page = (Path(__file__).parents[2] / "docs" / "puzzles.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == NAMES
