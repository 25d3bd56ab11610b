"""Puzzles whose answer is a function of NumPy arrays, compared with sparsenet's own results."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.teach.drawing import drawn_numbers, shown
from sparsenet.teach.inputs import reference_backend
from sparsenet.teach.judge import endless
from sparsenet.teach.puzzle import Puzzle, Wrong

TOLERANCE = 1e-9  # of numbers near 1
START_SECONDS = 60  # for the start of the process, beside the time that the answer has


@dataclass(frozen=True)
class Case:
    """One input and what is expected.

    words : the input in a few words, such as "7 sites of a 5 x 6 grid, filter 3 x 3"
    arguments : by name, as the function takes them
    expected : an array for each of the puzzle's results
    explain : from (number of the result, index of the first wrong entry) lines that explain and draw it
    """

    words: str
    arguments: dict[str, Any]
    expected: tuple[np.ndarray, ...]
    explain: Callable[[int, tuple[int, ...]], str] = lambda result, index: ""


@dataclass(frozen=True)
class NumpyPuzzle(Puzzle):
    """A function to complete.

    results : the names of what it returns
    cases : returns the inputs, from simple to general
    mistakes : words, and a function of the same arguments that makes the mistake: an answer with its results is told
        the words
    """

    results: tuple[str, ...] = ()
    cases: Callable[[], Iterable[Case]] = field(default=tuple, repr=False)
    mistakes: tuple[tuple[str, Callable[..., Any]], ...] = field(default=(), repr=False)
    suffix = ".py"
    comment = "#"
    empty = "raise NotImplementedError"

    @cached_property
    def _cases(self) -> list[Case]:
        with reference_backend():
            return list(self.cases())

    def _run(self, path: Path, seconds: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            verdict = Path(folder) / "verdict.json"
            own = path.resolve()
            command = [sys.executable, "-P", "-m", "sparsenet.teach.judge", self.name, str(own), str(verdict),
                       str(seconds)]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                                        "OPENBLAS_NUM_THREADS": "1"}
            try:
                done = subprocess.run(command, cwd=own.parent, env=environment, timeout=seconds + START_SECONDS,
                                      check=False)
            except subprocess.TimeoutExpired:
                raise Wrong(f"endless loop? The program had not ended after {seconds} seconds") from None
            trace = verdict.with_suffix(".trace")
            if not verdict.exists() and trace.exists() and (at := trace.read_text(encoding="utf-8")):
                raise Wrong(endless(at, own, seconds))
            if not verdict.exists():
                raise Wrong(f"the program ended with exit code {done.returncode} before its answer was checked")
            told = json.loads(verdict.read_text(encoding="utf-8"))
        if told["wrong"]:
            raise Wrong(told["wrong"])
        return told["remark"]

    def prepare(self) -> None:
        """Make the inputs, and what is expected of them, so that a learner's time does not count it."""
        _ = self._cases

    def judge(self, function: Callable[..., Any]) -> str:
        """Compare a function with what is expected, on all cases, and return a remark.

        Raises Wrong.
        """
        cases = self._cases
        for number, case in enumerate(cases, 1):
            given = copy.deepcopy(case.arguments)
            found = function(**given)
            try:
                self._compare(found, case)
            except Wrong as wrong:
                raise Wrong(f"case {number}, {case.words}:\n{self._mistake(function, cases)}{wrong}") from None
            for name, value in case.arguments.items():
                if not np.array_equal(value, given[name]):
                    raise Wrong(f"case {number}, {case.words}:\n"
                                f"the function changes its argument {name}: work on a copy")
        return f"{len(cases)} cases"

    def _results(self, found: Any) -> list[Any]:
        if len(self.results) == 1:
            return [found]
        if not isinstance(found, tuple | list) or len(found) != len(self.results):
            raise Wrong(f"the function returns {_kind(found)}, expected a tuple: {', '.join(self.results)}")
        return list(found)

    def _compare(self, found: Any, case: Case) -> None:
        if found is None:
            raise Wrong("the function returns None: does each of its ways end with return?")
        results = zip(self.results, self._results(found), case.expected, strict=True)
        for number, (name, one, expected) in enumerate(results):
            try:
                array = np.asarray(one)
            except ValueError:
                raise Wrong(f"{name} is {_kind(one)} with rows of different lengths, expected an array") from None
            if array.size == 0 and expected.size == 0:  # [] for an empty list of rows
                continue
            if array.dtype.kind not in "iufb" or (expected.dtype.kind in "iu" and array.dtype.kind == "f"):
                raise Wrong(f"{name} has dtype {array.dtype}, expected "
                            f"{'whole' if expected.dtype.kind in 'iu' else 'real'} "
                            "numbers")
            if array.shape != expected.shape:
                raise Wrong(f"{name} has shape {array.shape}, expected "
                            f"{expected.shape}{self._lacking(array, expected, name)}")
            if expected.dtype.kind == "f":
                wrong = ~np.isclose(array, expected, rtol=TOLERANCE, atol=TOLERANCE)
            else:
                wrong = array != expected
            if wrong.any():
                index = tuple(int(i) for i in np.argwhere(wrong)[0])
                place = ", ".join(map(str, index))
                lines = [f"{name}[{place}] is {shown(array[index])}, expected {shown(expected[index])} "
                         f"({np.count_nonzero(wrong)} of {wrong.size} numbers are wrong)"]
                lines += filter(None, [case.explain(number, index)])
                if wrong.size > 1:
                    lines.append(drawn_numbers(array, expected, index))
                raise Wrong("\n".join(lines))

    @staticmethod
    def _lacking(array: np.ndarray, expected: np.ndarray, name: str) -> str:
        """Of two lists of rows, the first that only one has."""
        if array.ndim != 2 or expected.ndim != 2 or array.shape[1] != expected.shape[1]:
            return ""
        found, wanted = ([tuple(row) for row in rows.tolist()] for rows in (array, expected))
        missing, beside = [row for row in wanted if row not in found], [row for row in found if row not in wanted]
        words = [f"{row} is missing" for row in missing[:1]] + [f"{row} should not be there" for row in beside[:1]]
        return ": " + ", ".join(words) if words else f": a row of {name} occurs twice"

    def _mistake(self, function: Callable[..., Any], cases: list[Case]) -> str:
        """Words for a well-known mistake, if the function does on all cases what it leads to."""
        for words, mistaken in self.mistakes:
            with np.errstate(all="ignore"):
                if all(_same(function, mistaken, case.arguments, len(self.results)) for case in cases):
                    return f"{words}\n"
        return ""


def _same(function: Callable[..., Any], other: Callable[..., Any], arguments: dict[str, Any], count: int) -> bool:
    """Whether both return the same arrays, `count` of them, or both raise."""
    results = []
    for one in (function, other):
        try:
            found = one(**copy.deepcopy(arguments))
        except Exception as error:  # whatever a learner's code raises
            found = type(error)
        results.append(list(found) if count > 1 and isinstance(found, tuple | list) else [found])
    if len(results[0]) != len(results[1]):
        return False
    for a, b in zip(*results, strict=True):
        if isinstance(a, type) or isinstance(b, type):
            if a is not b:
                return False
            continue
        try:
            if np.size(a) == np.size(b) == 0:
                continue
            if np.shape(a) != np.shape(b) or not np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE):
                return False
        except (TypeError, ValueError):  # not arrays of numbers
            return False
    return True


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
