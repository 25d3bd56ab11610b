"""The interface between a CUDA kernel and the driver that compiles and runs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from sparsenet.kernels.cuda.signature import Parameter

Launch = Callable[[tuple[int, int, int], tuple[int, int, int], tuple, int], None]


class Source(Protocol):
    """The text of a CUDA source with its headers.

    target : the only architecture that has its instructions, such as "sm_90a"; None if all have them
    """

    @property
    def text(self) -> str: ...

    @property
    def target(self) -> str | None: ...

    def line(self, file: str, number: int) -> str:
        """A line of one of its files."""


class Kernel(Protocol):
    """A variant of a kernel: its name in the source, its macros and parameters."""

    name: str
    defines: dict[str, str]
    source: Source
    parameters: tuple[Parameter, ...]


class Driver(Protocol):
    """Compiles kernels and runs them.

    ndarray : the class of arrays that its kernels can access
    wanted : a description of such an array, for error messages
    """

    ndarray: type
    wanted: str

    def compile(self, kernel: Kernel) -> Launch:
        """A function (grid, block, arguments, shared_bytes) that runs the kernel; the arguments are numbers that fit
        their parameters, Python's or NumPy's, arrays, and None for a null pointer.

        It raises TypeError, naming kernel and argument, for an array on another GPU.
        """

    def address(self, array: Any) -> int:
        """The address of the first element of the array."""


class CompileError(RuntimeError):
    """A kernel does not compile; the message shows the compiler's log and the lines that it refers to."""

    def __init__(self, kernel: Kernel, log: str):
        shown = [f"{kernel.name} {kernel.defines} does not compile:"]
        for line in log.splitlines():
            shown.append(line)
            place = re.match(r"([\w.]+)[(:](\d+)\)?.*?(?:error|warning)", line)
            if place:
                shown.append(f"    {place[2]} | {kernel.source.line(place[1], int(place[2]))}")
        super().__init__("\n".join(shown))
