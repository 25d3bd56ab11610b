"""Runs CUDA kernels on the host: a driver for `sparsenet.kernels.cuda.source.use_driver`.

    with cuda.use_driver(HostDriver()):
        launch("leaky_relu_forward", x, 0.33, backend="cuda")      # x of NumPy

A source in one variant becomes one executable (its text between cuda_host.h and the scheduler), compiled by
g++ under AddressSanitizer and UndefinedBehaviorSanitizer, kept by the digest of all that goes into it.
It runs as a process that launches are sent to (main.cpp says how), so that a report ends it and not the
tests.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.source import CudaKernel, Launch
from sparsenet.teach.cuda_host.process import HostError, LastRows, Process, address_of

__all__ = ["HostDriver", "HostError", "LastRows", "cache_folder", "digest", "poisoned_empty"]

FOLDER = Path(__file__).parent
COMPILER = os.environ.get("CXX", "g++")
SANITIZERS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all",
              "-fsanitize-sections=sparsenet_shared")
LANGUAGE = ("-std=c++17", "-ffp-contract=off")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable",
            "-Wno-sign-compare")
PREFIX = "prefix.h"
HEADERS = ("cuda_host.h", "warp.h", "hopper.h", "hopper_runtime.h", "scheduler.h")  # of a kernel
RUNTIME_HEADERS = ("scheduler.h", "hopper_runtime.h", "run.h", "fiber.h", "watch.h")
RUNTIME = ("scheduler.cpp", "hopper.cpp", "wgmma.cpp", "watch.cpp", "main.cpp")
INSTALL = ("install a C++ compiler: apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora, RHEL), "
           "pacman -S gcc (Arch); or let CXX name another")
SECONDS = 300  # of the compiler
MOST_PROCESSES = 12  # the one not used for longest makes way
FEW = 2  # blocks, of the run in which grid-stride loops go round again


class HostDriver:
    """Compiles and runs kernels on the host.

    folder : where executables are kept
    few : each launch of more blocks along x runs on that many, too; None: it does not
    first_block : of a launch, the blocks before this one are left out (see `last_blocks`)
    watched, seconds, outputs, printed, counts : for `watched.WatchedDriver`

    Raises RuntimeError if there is no C++ compiler, or the system is not Linux.
    """

    ndarray = np.ndarray
    wanted = "a NumPy array: this driver runs on the host"
    kernel_options: tuple[str, ...] = (*LANGUAGE, *WARNINGS, "-O1", "-g1", *SANITIZERS)  # -g1: lines, not variables
    runtime_options: tuple[str, ...] = (*LANGUAGE, *WARNINGS, "-O2", "-g", "-DSPARSENET_SANITIZE")
    link_options: tuple[str, ...] = SANITIZERS
    watched = False

    def __init__(self, folder: Path | None = None):
        if not sys.platform.startswith("linux"):
            raise RuntimeError("CUDA kernels run on the host on Linux alone: on Windows, use WSL")
        if shutil.which(COMPILER) is None:
            raise RuntimeError(f"CUDA kernels run on the host with a C++ compiler, and there is no {COMPILER}: "
                               f"{INSTALL}")
        self.folder = folder or cache_folder()
        self.few: int | None = FEW
        self.first_block = 0
        self.seconds = 10  # of the processor, that a launch may take if it is watched
        self.outputs: Collection[str] = ()  # arguments of which all is to be written
        self.printed = ""  # by printf in the last launch
        self.counts: dict[str, tuple[int, int]] = {}  # bytes read and written of each argument by the last launch
        self._processes: dict[Path, Process] = {}  # by executable; the one used last stands last
        self._lock = threading.Lock()
        atexit.register(self.close)

    def address(self, array: np.ndarray) -> int:
        return address_of(array)

    def compile(self, kernel: CudaKernel) -> Launch:
        executable = self._build(kernel)

        def launch(grid: tuple, block: tuple, arguments: tuple, shared_bytes: int) -> None:
            with self._lock:
                seconds = self.seconds if self.watched else None
                process = self._processes.pop(executable, None) or Process(executable, seconds)
                with ExitStack() as failing:
                    failing.callback(process.close)
                    few = None if any(p.per_block and value is not None for p, value in
                                      zip(kernel.parameters, arguments, strict=True)) else self.few
                    process.launch(kernel, grid, block, arguments, shared_bytes, few, self.first_block,
                                   self.outputs)
                    failing.pop_all()
                self.printed = process.printed() if self.watched else ""
                self.counts = dict(zip([p.name for p in kernel.parameters], process.counts, strict=False))
                self._processes[executable] = process
                if len(self._processes) > MOST_PROCESSES:
                    self._processes.pop(next(iter(self._processes))).close()

        return launch

    @contextmanager
    def last_blocks(self, first: int) -> Iterator[None]:
        """A context in which launches run only their blocks from that number on, once."""
        few, self.few, self.first_block = self.few, None, first
        try:
            yield
        finally:
            self.few, self.first_block = few, 0

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def is_ready(self) -> bool:
        """Whether the parts that all kernels share have been compiled, which takes seconds."""
        return all((self.folder / name).exists() for name in (self._prefix_name(), self._runtime_name()))

    def _prefix_name(self) -> str:
        return f"prefix-{digest(_version(), *self.kernel_options, *map(_read, HEADERS))}"

    def _runtime_name(self) -> str:
        return f"runtime-{digest(_version(), *self.runtime_options, *map(_read, RUNTIME_HEADERS + RUNTIME))}.o"

    def _build(self, kernel: CudaKernel) -> Path:
        defines = [f"-D{name}={value}" for name, value in kernel.defines.items()]
        cases = " ".join(f"case {number}: return sparsenet_host::call(&{name}, arguments);"
                         for number, name in enumerate(kernel.module))
        text = (f'#include "{PREFIX}"\n{kernel.source.text}\n#line 1 "entry"\n'
                f'extern "C" void sparsenet_kernel(int kernel, void** arguments) {{ switch (kernel) {{ {cases} }} }}\n')
        runtime, prefix = self._runtime(), self._prefix()

        def make(scratch: Path) -> Path:
            source, done = scratch / "kernel.cpp", scratch / "done"
            source.write_text(text, encoding="utf-8")
            compiled = scratch / "kernel.o"
            includes = [f"-I{prefix}", f"-I{FOLDER}"]
            log = (_run(COMPILER, *self.kernel_options, *defines, *includes, "-c", str(source), "-o", str(compiled))
                   or _run(COMPILER, *self.link_options, str(compiled), str(runtime), "-o", str(done)))
            if log:
                raise CompileError(kernel, log)
            return done

        parts = (text, *defines, *self.link_options, runtime.name, prefix.name)
        return self._kept(f"{kernel.source.path.stem}-{digest(*parts)}", make)

    def _prefix(self) -> Path:
        """A folder with the headers of a kernel, compiled once: they are most of it."""
        def make(scratch: Path) -> Path:
            header = scratch / "done" / PREFIX
            header.parent.mkdir()
            header.write_text('#include "cuda_host.h"\n', encoding="utf-8")
            log = _run(COMPILER, *self.kernel_options, f"-I{FOLDER}", "-x", "c++-header", str(header), "-o",
                       f"{header}.gch")
            if log:
                raise RuntimeError(f"sparsenet/teach/cuda_host does not compile:\n{log}")
            return header.parent

        return self._kept(self._prefix_name(), make)

    def _runtime(self) -> Path:
        """The scheduler and all it runs, compiled once, without instrumentation: they switch often."""
        def make(scratch: Path) -> Path:
            both, done = scratch / "runtime.cpp", scratch / "done"
            both.write_text("".join(f'#include "{name}"\n' for name in RUNTIME), encoding="utf-8")
            log = _run(COMPILER, *self.runtime_options, f"-I{FOLDER}", "-c", str(both), "-o", str(done))
            if log:
                raise RuntimeError(f"sparsenet/teach/cuda_host does not compile:\n{log}")
            return done

        return self._kept(self._runtime_name(), make)

    def _kept(self, name: str, make: Callable[[Path], Path]) -> Path:
        """The file of that name in the folder; the first process that needs it calls `make`, which returns it."""
        target = self.folder / name
        if not target.exists():
            with open(self.folder / f"{name}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not target.exists():
                    with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                        make(Path(scratch)).rename(target)
        return target


@contextmanager
def poisoned_empty() -> Iterator[None]:
    """A context in which `numpy.empty` and `numpy.empty_like` return arrays filled with NaN or huge
    integers, so that an output which a kernel leaves unwritten is noticed."""
    empty, empty_like = np.empty, np.empty_like

    def poison(array: np.ndarray) -> np.ndarray:
        kind = array.dtype.kind
        if kind == "V":  # without bytes, as numpy.broadcast_shapes makes them
            return array
        array.fill(np.nan if kind == "f" else True if kind == "b" else np.iinfo(array.dtype).max - 0x5A)
        return array

    with (mock.patch.object(np, "empty", lambda *args, **kwargs: poison(empty(*args, **kwargs))),
          mock.patch.object(np, "empty_like", lambda *args, **kwargs: poison(empty_like(*args, **kwargs)))):
        yield


def cache_folder() -> Path:
    """The folder of compiled files: the one that SPARSENET_CUDA_HOST names, else this user's own under
    the temporary folder.

    Raises RuntimeError if others can write to the latter: what lies in it is run.
    """
    if named := os.environ.get("SPARSENET_CUDA_HOST"):
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder
    folder = Path(tempfile.gettempdir()) / f"sparsenet_cuda_host_{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise RuntimeError(f"{folder}: others can write to it, expected a folder of this user alone: remove it, or let "
                           "SPARSENET_CUDA_HOST name another folder")
    return folder


@cache
def _version() -> str:
    return subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout


def _run(*command: str) -> str:
    """The command's error output if it fails, else an empty string."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"the compiler ran for more than {SECONDS} seconds"
    return (done.stderr or "failed") if done.returncode else ""


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
