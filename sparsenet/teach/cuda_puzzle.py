"""Puzzles whose answer is a CUDA kernel, run on the host executor, which watches each access of each thread."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.teach.drawing import drawn_numbers, shown
from sparsenet.teach.inputs import reference_backend
from sparsenet.teach.puzzle import Puzzle, Wrong

TOLERANCE = 1e-5  # float32, summed in any order


@dataclass(frozen=True)
class Output:
    """An argument that the kernel has to fill: it begins as garbage, and each element is to be written."""

    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Launch:
    """One launch and what is expected of it.

    words : the launch in a few words;  grid, block : blocks, and threads of each, along x, or along (x, y)
    arguments : by the names of the kernel's parameters: arrays, numbers, and an Output for what the kernel fills
    expected : the contents of arrays that it writes to, afterwards
    max_reads : argument -> how many of its elements may be read in the whole launch, and why
    verify : from the arrays afterwards, by name, what is wrong with them, in words ("": nothing), if there is more than
        one right result
    """

    words: str
    grid: int | tuple[int, int]
    block: int | tuple[int, int]
    arguments: dict[str, Any]
    expected: dict[str, np.ndarray] = field(default_factory=dict)
    max_reads: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    verify: Callable[[dict[str, np.ndarray]], str] = lambda arrays: ""


@dataclass(frozen=True)
class CudaPuzzle(Puzzle):
    """A kernel to complete.

    launches : returns what it is tried on
    uses : a name that the kernel has to use, if a right result is possible without what the puzzle is about
    axes : argument -> what its axes count, such as ("row", "channel")
    advice : kind of a fault (`watched.KINDS`) -> what to do about it in this puzzle
    """

    launches: Callable[[], Iterable[Launch]] = field(default=tuple, repr=False)
    uses: str = ""
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    advice: Mapping[str, str] = field(default_factory=dict, repr=False)
    suffix = ".cu"
    comment = "//"
    empty = ""

    @cached_property
    def _launches(self) -> list[Launch]:
        with reference_backend():
            return list(self.launches())

    def _run(self, path: Path, seconds: int) -> str:
        try:
            from sparsenet.teach.cuda_host.host_driver import INSTALL  # noqa: F401
        except ImportError:
            raise RuntimeError("CUDA kernels run on the host on Linux alone: on Windows, use WSL") from None
        from sparsenet.kernels.cuda.interface import CompileError
        from sparsenet.kernels.cuda.source import CudaSource, use_driver
        from sparsenet.teach.cuda_host.watched import Fault, WatchedDriver
        from sparsenet.teach.faults import told

        source = CudaSource(path.stem, path.parent)
        driver = WatchedDriver()
        driver.seconds = seconds
        self._check_signature(path)
        if not driver.is_ready():
            print("Compiling the host executor, once: this takes some seconds.", file=sys.stderr, flush=True)
        number, remark = 0, ""
        try:
            kernel = source.kernel(self.name)
            for number, launch in enumerate(self._launches, 1):
                arrays = _arrays(launch)
                driver.outputs = {name for name, value in launch.arguments.items() if isinstance(value, Output)}
                shapes = {name: value.shape for name, value in arrays.items()}
                with use_driver(driver):
                    try:
                        kernel(launch.grid, launch.block, *(arrays.get(name, value) for name, value in
                                                            launch.arguments.items()))
                        print(driver.printed, end="")
                    except Fault as fault:
                        print(driver.printed if fault.here else "", end="")
                        words = told(fault, path, shapes, launch.grid, launch.block, seconds)
                        advice = self.advice.get(fault.kind, "")
                        raise Wrong(f"launch {number}, {launch.words}:\n{words}\n{advice}".rstrip()) from None
                try:
                    self._compare(launch, arrays)
                    remark = _reads(launch, arrays, driver.counts)
                except Wrong as wrong:
                    raise Wrong(f"launch {number}, {launch.words}:\n{wrong}") from None
        except CompileError as error:
            raise Wrong(_compiler_words(str(error), path)) from None
        finally:
            driver.close()
        code = re.sub(r"//.*|/\*.*?\*/", "", path.read_text(encoding="utf-8"))
        if self.uses and not re.search(rf"\b{self.uses}\b", code):
            raise Wrong(f"the numbers are right, but the kernel does without {self.uses}, which this puzzle is about")
        return f"{number} launches, each in three orders of threads and blocks{remark}"

    def _check_signature(self, path: Path) -> None:
        from sparsenet.kernels.cuda.signature import parse

        try:
            found = parse(path.read_text(encoding="utf-8"), {}).get(self.name)
        except ValueError as error:
            raise Wrong(f"{error}\nKeep the first line of the kernel as it was.") from None
        if found is None or found != parse(self.solution, {})[self.name]:
            line = re.search(rf'^extern "C".*\b{self.name}\([^)]*\)', self.solution, re.MULTILINE)
            assert line is not None
            raise Wrong(f"{path.name} has {'no' if found is None else 'another'} kernel {self.name}, expected\n    "
                        f"{line[0]}")

    def _compare(self, launch: Launch, arrays: dict[str, np.ndarray]) -> None:
        for name, expected in launch.expected.items():
            found = arrays[name]
            if expected.dtype.kind == "f":
                wrong = ~np.isclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
            else:
                wrong = found != expected
            if wrong.any():
                index = tuple(int(i) for i in np.argwhere(wrong)[0])
                axes = self.axes.get(name, ())
                where = f" ({', '.join(f'{axis} {i}' for axis, i in zip(axes, index, strict=True))})" if axes else ""
                raise Wrong(f"{name}[{', '.join(map(str, index))}]{where} is {shown(found[index])}, expected "
                            f"{shown(expected[index])} ({np.count_nonzero(wrong)} of {wrong.size} numbers are wrong)\n"
                            f"{drawn_numbers(found, expected, index)}")
        if words := launch.verify(arrays):
            raise Wrong(words)


def _arrays(launch: Launch) -> dict[str, np.ndarray]:
    """The arrays of the arguments, those to be filled with garbage."""
    arrays = {}
    for name, value in launch.arguments.items():
        if isinstance(value, Output):
            dtype = np.dtype(value.dtype)
            arrays[name] = np.full(value.shape, np.nan if dtype.kind == "f" else -77, dtype)
        elif isinstance(value, np.ndarray):
            arrays[name] = value.copy()
    return arrays


def _reads(launch: Launch, arrays: dict[str, np.ndarray], counts: Mapping[str, tuple[int, int]]) -> str:
    """Raise Wrong if too much is read; words for how much is."""
    words = ""
    for name, (limit, why) in launch.max_reads.items():
        reads = counts[name][0] // arrays[name].itemsize
        if reads > limit:
            raise Wrong(f"the numbers are right, but the kernel reads {reads} elements of {name} from global memory, "
                        f"expected at most {limit}: {why}")
        words += f", {reads} reads of {name}"
    return words


def _compiler_words(log: str, path: Path) -> str:
    """The compiler's errors, each with its line, without what surrounds them."""
    asserted = re.search(r"static assertion failed: (.*)", log)
    caller = re.search(rf"{re.escape(path.name)}:(\d+):\d+:\s+required from here", log)
    if asserted and caller:
        return f"line {caller[1]} of {path.name} does not compile: {asserted[1]}"
    lines, kept = log.splitlines(), []
    for number, line in enumerate(lines):
        if re.search(r":\d+:\d+: (?:fatal )?error: ", line):
            shown_lines = [one for one in lines[number + 1:number + 4] if re.match(r"\s+\d*\s*\|", one)]
            kept += [re.sub(r"^.*/", "", line, count=1), *shown_lines[-2:]]  # the line, and the place in it
    return f"{path.name} does not compile:\n" + ("\n".join(kept[:9]) or log)


def on_blocks(blocks: int, threads: int) -> str:
    """"on 1 block of 64 threads"."""
    return f"on {blocks} block{'s' * (blocks != 1)} of {threads} threads"
