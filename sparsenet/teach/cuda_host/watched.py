"""Kernels whose accesses are watched: the host driver that names the thread, the line and the fault.

    with use_driver(WatchedDriver()) as driver:
        driver.outputs = {"out"}
        kernel(blocks, threads, x, out)      # raises Fault: a race, an access out of bounds, an output not written ...

A source is compiled with g++'s calls before each access (watch.cpp), in the place of sanitizers: quicker to compile,
and a race is found by what orders two accesses, not by what comes out.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sparsenet.kernels.cuda.signature import Parameter
from sparsenet.kernels.cuda.source import CudaKernel, Launch
from sparsenet.teach.cuda_host.host_driver import LANGUAGE, HostDriver, HostError

KINDS = {"beyond": "out of bounds", "race": "race", "unwritten": "uninitialised", "missing": "unwritten output",
         "misaligned": "misaligned", "endless": "endless loop", "division": "division by zero", "crash": "crash",
         "divergence": "divergence"}
GUARD = 4096  # bytes before static shared memory, as in watch.cpp
_MEMORY = ("argument", "dynamic", "static")


@dataclass(frozen=True)
class Access:
    """The access of one thread at one line of the source (0: unknown)."""

    thread: tuple[int, int, int]
    block: tuple[int, int, int]
    line: int
    writes: bool
    atomic: bool = False


@dataclass(frozen=True)
class Memory:
    """An array: an argument of the kernel, or a shared one.

    index : of the element, row-major, negative or too large if it is beyond;  size : elements of the array
    """

    name: str
    shared: bool
    index: int
    size: int


class Fault(HostError):
    """The first fault of a launch.

    kind : one of the values of KINDS
    here, there : the access that is wrong, and for a race the other one; None if it is not one of a thread
    memory : what is accessed;  missing : how many elements of it are never written
    """

    def __init__(self, kernel: CudaKernel, report: str, kind: str, here: Access | None = None,
                 there: Access | None = None, memory: Memory | None = None, missing: int = 0):
        super().__init__(kernel, report)
        self.kind, self.here, self.there, self.memory, self.missing = kind, here, there, memory, missing


class WatchedDriver(HostDriver):
    """Runs kernels on the host and watches their accesses.

    seconds : of the processor, that a launch may take
    outputs : names of arguments of which each element is to be written, and none read before
    counts : argument -> bytes read and written by the last launch
    printed : what its threads have printed
    """

    kernel_options = (*LANGUAGE, "-Werror=return-type", "-Werror=uninitialized",
                      "-Wno-maybe-uninitialized", "-O1", "-gdwarf-4",
                      "-DSPARSENET_WATCH", "-fsanitize=thread", "-fno-pie")
    runtime_options = (*LANGUAGE, "-O2", "-g1", "-DSPARSENET_WATCH", "-fno-pie")
    link_options = ("-no-pie",)  # addresses in the code are those in the file
    watched = True

    def __init__(self, folder: Path | None = None):
        super().__init__(folder)
        self.few = None

    def compile(self, kernel: CudaKernel) -> Launch:
        launch, executable = super().compile(kernel), self._build(kernel)

        def watched(grid: tuple, block: tuple, arguments: tuple, shared_bytes: int) -> None:
            try:
                launch(grid, block, arguments, shared_bytes)
            except HostError as error:
                self.printed = re.sub(r"^watch: .*\n?", "", error.report, flags=re.MULTILINE)
                raise fault_of(error.report, kernel, executable) from None

        return watched


def fault_of(report: str, kernel: CudaKernel, executable: Path) -> Fault:
    """The fault that an executable reported before it ended."""
    told = re.search(r"^watch: (\{.*\})$", report, re.MULTILINE)
    if told is None:
        return Fault(kernel, report, KINDS["divergence"] if "divergence:" in report else "error")
    found = json.loads(told[1])
    here, there = (_access(found[key], kernel, executable) if key in found else None for key in ("here", "there"))
    if found["fault"] in ("endless", "crash", "division"):  # `there` is the access before, in the same thread
        return Fault(kernel, report, KINDS[found["fault"]], here if here and here.line else there)
    memory, missing = _memory(found, kernel, executable), 0
    if found["fault"] == "missing":
        missing = -(-found["size"] // kernel.parameters[found["argument"]].dtype.itemsize)
    return Fault(kernel, report, KINDS[found["fault"]], here, there, memory, missing)


def _access(found: dict, kernel: CudaKernel, executable: Path) -> Access:
    line = found["line"] or _line_of(found["code"], kernel.source.path.name, executable)
    return Access(tuple(found["thread"]), tuple(found["block"]), line, found["write"], bool(found["line"]))


def _line_of(code: int, name: str, executable: Path) -> int:
    """The line of the source at an address of the code, in the innermost of its functions; 0 if there is none."""
    told = _output("addr2line", "-i", "-e", str(executable), hex(code))
    lines = re.findall(rf"(?:^|/){re.escape(name)}:(\d+)", told, re.MULTILINE)
    return int(lines[0]) if lines else 0


def _memory(found: dict, kernel: CudaKernel, executable: Path) -> Memory:
    offset, size, kind = found["offset"], max(found["size"], 1), _MEMORY[found["memory"]]
    if kind == "argument":
        parameter: Parameter = kernel.parameters[found["argument"]]
        each = parameter.dtype.itemsize
        return Memory(parameter.name, False, offset // each, found["bytes"] // each)
    if kind == "dynamic":
        return Memory("shared memory", True, offset // size, found["bytes"] // size)
    name, begin, length = _shared_array(offset, executable)
    return Memory(name, True, (offset - begin) // size, length // size)


def _shared_array(offset: int, executable: Path) -> tuple[str, int, int]:
    """The shared array at that offset of static shared memory, or else the nearest: its name, offset, and bytes."""
    found = {name: (int(place, 16), int(size or "0", 16)) for place, size, name in
             re.findall(r"^([0-9a-f]+) (?:([0-9a-f]+) )?[a-zA-Z] (.*)$", _output("nm", "-S", "-C", str(executable)),
                        re.MULTILINE)}
    begin, end = found["__start_sparsenet_shared"][0] + GUARD, found["sparsenet_host::(anonymous namespace)::guard"][0]
    arrays = [(name, place - begin, size) for name, (place, size) in found.items() if begin <= place < end and size]
    if not arrays:
        return "shared memory", 0, end - begin
    name, start, size = min(arrays, key=lambda one: max(one[1] - offset, offset - one[1] - one[2] + 1, 0))
    return re.split(r"[ .\[]", name.rpartition("::")[2])[0], start, size


def _output(*command: str) -> str:
    """The output of a program of binutils, which g++ needs too."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
