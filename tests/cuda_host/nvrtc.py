"""Compiles kernels without a GPU: NVRTC generates the machine code and reports its resources."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import re
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sparsenet.kernels.cuda.driver import options_of
from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.source import CudaKernel
from sparsenet.teach.cuda_host.host_driver import cache_folder, digest

ARCHITECTURES = (75, 80, 86, 90, 100, 120)  # Turing, Ampere (A100, RTX 30), Hopper, Blackwell (B200, RTX 50)
COMPILED = ARCHITECTURES if os.environ.get("SPARSENET_ARCHITECTURES") == "all" else (80, 90)  # by the tests
CUPYS = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy (13, 14) adds to the options of a module
_ENTRY = re.compile(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Resources:
    """The resources of one kernel on one architecture, in bytes; registers are counted per thread."""

    registers: int
    shared: int  # static; what a launch asks for comes on top
    stack: int  # arrays of a thread that are not in registers
    spill_stores: int
    spill_loads: int


@cache
def libraries() -> dict[str, ctypes.CDLL]:
    """NVRTC of each CUDA, by its version ("12.9"), of wheels, or else of a toolkit; empty if none is installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in spec.submodule_search_locations] if spec else []
    paths = [path for folder in folders for wheel in ("cuda_nvrtc", "cu*")
             for path in sorted(folder.glob(f"{wheel}/lib/libnvrtc.so.*"))]
    for path in paths:
        for builtins in sorted(path.parent.glob("libnvrtc-builtins.so.*")):  # CUDA 13's is not found by itself
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    toolkit = ctypes.util.find_library("nvrtc")
    loaded = [ctypes.CDLL(str(path)) for path in paths] or ([ctypes.CDLL(toolkit)] if toolkit else [])
    return {".".join(map(str, _version(nvrtc))): nvrtc for nvrtc in loaded}


def compile_kernels(kernel: CudaKernel, architecture: int, version: str | None = None) -> dict[str, Resources]:
    """Resources of each kernel of the source, in the variant of `kernel`, on sm_`architecture`; compiled as CuPy does.

    version : of NVRTC, among `libraries()` (default: the first)

    Kept on disk by the digest of all that goes in.  Raises CompileError for an error and for any warning.
    """
    version = version or next(iter(libraries()))
    own = [] if kernel.source.target else [f"-arch=sm_{architecture}"]
    options = [*options_of(kernel), *CUPYS, *own, "--ptxas-options=-v"]
    kept = cache_folder() / f"nvrtc-{digest(version, kernel.source.text, *options)}.txt"
    if kept.exists():
        log = kept.read_text(encoding="utf-8")
    else:
        failed, log = compile_source(libraries()[version], kernel.source.text, options)
        if failed or "warning" in log:
            raise CompileError(kernel, f"sm_{architecture}:\n{log}")
        fresh = kept.with_suffix(f".{threading.get_ident()}.{os.getpid()}")
        fresh.write_text(log, encoding="utf-8")
        fresh.rename(kept)
    return {name: _resources(report) for name, report in _ENTRY.findall(log)}


def _resources(report: str) -> Resources:
    def number(pattern: str) -> int:
        match = re.search(pattern, report)
        return int(match[1]) if match else 0

    return Resources(number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), number(r"(\d+) bytes stack frame"),
                     number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes spill loads"))


def compile_source(nvrtc: ctypes.CDLL, text: str, options: list[str]) -> tuple[bool, str]:
    """Whether it failed, and the compiler's log."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None))
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options),
                                           (ctypes.c_char_p * len(options))(*map(str.encode, options)))
        _check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        _check(nvrtc.nvrtcGetProgramLog(program, log))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return status != 0, log.value.decode()


def _version(nvrtc: ctypes.CDLL) -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC: error {status}")
