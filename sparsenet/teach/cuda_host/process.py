"""A running executable that holds one kernel: launches are sent to it, arrays come back (main.cpp says how)."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np

from sparsenet.kernels.cuda.source import CudaKernel

# Arrays are allocated by main.cpp, from where it is always the same stack; what it frees no kernel has an address of.
ASAN_OPTIONS = "detect_leaks=0:malloc_context_size=1:quarantine_size_mb=16"
_SCALAR, _ARRAY, _NULL, _SAME = range(4)
_WRITTEN, _ORDERED, _OUTPUT = 1, 2, 4


class HostError(AssertionError):
    """A kernel did something forbidden; the message is the report of a sanitizer or of the scheduler."""

    def __init__(self, kernel: CudaKernel, report: str):
        super().__init__(f"{kernel.name} {kernel.defines}: {report}")
        self.report = report


class LastRows(np.ndarray):
    """The last rows of an array whose other rows do not exist: `LastRows.of(array, before)`, with that many rows
    before it.  A kernel reads and writes them under their numbers in the whole."""

    before = 0

    @classmethod
    def of(cls, array: np.ndarray, before: int) -> LastRows:
        rows = array.view(cls)
        rows.before = before
        return rows


class Process:
    """A running executable.

    seconds : that a launch may take, of one that is compiled to be watched; None: it is not
    """

    def __init__(self, executable: Path, seconds: int | None):
        self.watched, self.launches = seconds is not None, 0
        self.counts: list[tuple[int, int]] = []  # bytes read and written of each argument, if watched
        self.errors, self._read = tempfile.TemporaryFile(), 0
        environment = os.environ | {"ASAN_OPTIONS": ASAN_OPTIONS, "UBSAN_OPTIONS": "print_stacktrace=1",
                                    "SPARSENET_WATCH_SECONDS": str(seconds)}
        self.process = subprocess.Popen([executable], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        env=environment)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.pipe_in, self.pipe_out = self.process.stdin, self.process.stdout

    def launch(self, kernel: CudaKernel, grid: tuple, block: tuple, arguments: tuple, shared_bytes: int,
               few: int | None, first_block: int, outputs: Collection[str]) -> None:
        self.launches += 1  # each launch has another random order
        head: list[int] = []
        contents: list[bytes] = []
        places: dict[tuple[int, int], int] = {}  # where an array lies -> its argument
        for number, (value, parameter) in enumerate(zip(arguments, kernel.parameters, strict=True)):
            if not parameter.pointer:
                head += [_SCALAR, 8, 0, 0, 0]
                contents.append(parameter.dtype.type(value).tobytes().ljust(8, b"\0"))
                continue
            if value is None:
                head += [_NULL, 0, 0, 0, 0]
                continue
            address = address_of(value)
            flags = (_WRITTEN * parameter.written | _ORDERED * parameter.ordered
                     | _OUTPUT * (parameter.written and parameter.name in outputs))
            place = (address, value.nbytes)
            if value.size and place in places:
                head += [_SAME, value.nbytes, places[place], flags, 0]
                continue
            places[place] = number
            before = value.before * value.strides[0] if isinstance(value, LastRows) else 0
            head += [_ARRAY, value.nbytes, address % 16, flags, before]
            contents.append(value.tobytes())
        numbers = [kernel.module.index(kernel.name), *grid, *block, shared_bytes, self.launches, few or 0, first_block,
                   len(arguments), *head]
        try:
            self.pipe_in.write(struct.pack(f"{len(numbers)}q", *numbers) + b"".join(contents))
            self.pipe_in.flush()
            for value, parameter in zip(arguments, kernel.parameters, strict=True):
                if parameter.written and value is not None and value.size:
                    data = self.pipe_out.read(value.nbytes)
                    value.view(np.ndarray).reshape(-1)[...] = np.frombuffer(data, value.dtype)
            if self.watched:
                counts = struct.unpack(f"{2 * len(arguments)}q", self.pipe_out.read(16 * len(arguments)))
                self.counts = list(zip(counts[::2], counts[1::2], strict=True))
            if self.pipe_out.read(1) != b".":
                raise BrokenPipeError
        except (BrokenPipeError, ValueError, struct.error):  # it has ended: what came is too short
            raise HostError(kernel, self._report(kernel)) from None

    def printed(self) -> str:
        """The text written to standard error since the last call."""
        self.errors.seek(self._read)
        text = self.errors.read()
        self._read += len(text)
        return text.decode(errors="replace")

    def _report(self, kernel: CudaKernel) -> str:
        status = self.process.wait()
        self.errors.seek(self._read)
        report = self.errors.read().decode(errors="replace").strip() or f"the process ended with status {status}"
        names = [parameter.name for parameter in kernel.parameters]
        return re.sub(r"argument #(\d+)", lambda match: f"argument {names[int(match[1])]}", report)

    def close(self) -> None:
        for pipe in (self.pipe_in, self.pipe_out):
            with suppress(BrokenPipeError):  # what was still to be sent to an ended process
                pipe.close()
        self.process.wait()
        self.errors.close()


def address_of(array: np.ndarray) -> int:
    """Where its first element lies."""
    return array.__array_interface__["data"][0]
