"""Kernels on the GPU: compiled at their first launch by NVRTC through CuPy, which keeps the result on disk.

A launch calls the driver's cuLaunchKernel directly, with the arguments in memory that is reused; CuPy's own call
creates an object for each argument.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from functools import cache
from typing import Any

from sparsenet.backend import cupy
from sparsenet.kernels.cuda.interface import CompileError, Kernel, Launch
from sparsenet.kernels.cuda.signature import Parameter

OPTIONS = ("-std=c++17", "-lineinfo")  # line numbers for compute-sanitizer and profilers, at no cost
_SHARED_BY_DEFAULT = 48 * 1024  # bytes; more must be requested, per kernel
_SLOT = 8  # bytes for each argument
_CODES = {"bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
          "int64": "q", "uint64": "Q", "float16": "e", "float32": "f", "float64": "d"}  # of `struct`


def options_of(kernel: Kernel) -> tuple[str, ...]:
    """The compiler options for CuPy, in a fixed order, since they are part of the key of its cache on disk."""
    target = (f"-arch={kernel.source.target}",) if kernel.source.target else ()  # replaces CuPy's own
    return OPTIONS + target + tuple(f"-D{name}={value}" for name, value in sorted(kernel.defines.items()))


@cache
def driver_library() -> Any:
    """CUDA's driver library, which CuPy has loaded.  A call of it releases the interpreter's lock; otherwise a loader's
    thread would keep a step waiting for a whole switch interval (5 ms)."""
    library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    sizes = [ctypes.c_uint] * 7
    library.cuLaunchKernel.argtypes = [ctypes.c_void_p, *sizes, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return library


class _Frame:
    """Memory of one thread for the arguments of one kernel: a slot each, and the addresses of the slots."""

    def __init__(self, parameters: tuple[Parameter, ...]):
        codes = ["Q" if one.pointer else _CODES[one.dtype.name] for one in parameters]
        layout = struct.Struct("=" + "".join(f"{code}{_SLOT - struct.calcsize('=' + code)}x" for code in codes))
        self._memory = ctypes.create_string_buffer(max(1, layout.size))
        first = ctypes.addressof(self._memory)
        self._places = (ctypes.c_void_p * max(1, len(codes)))(*(first + _SLOT * i for i in range(len(codes))))
        self.address = ctypes.addressof(self._places)
        self._pack = layout.pack_into

    def fill(self, values: list[Any]) -> None:
        self._pack(self._memory, 0, *values)


class CupyDriver:
    """Runs kernels on CuPy's current device and current stream.

    Raises RuntimeError if CuPy or a GPU is missing; the message says what to install.
    """

    wanted = "an array on the GPU: move it with .to('cuda') or cupy.asarray"

    def __init__(self) -> None:
        self._cupy = cupy()
        self.ndarray = self._cupy.ndarray
        self._device = self._cupy.cuda.runtime.getDevice  # the number of the current device
        self._stream = self._cupy.cuda.get_current_stream

    def address(self, array: Any) -> int:
        return array.data.ptr

    def compile(self, kernel: Kernel) -> Launch:
        functions: dict[int, Any] = {}  # CuPy's, by device
        places: dict[int, int] = {}  # the driver's handles of the functions
        granted: dict[int, int] = {}  # bytes of shared memory requested so far, by device
        lock, local = threading.Lock(), threading.local()
        start = driver_library().cuLaunchKernel

        def prepare(device: int, shared_bytes: int) -> int:
            with lock:  # a thread that requests less must not reduce what another was granted
                function = functions.get(device) or self.load(kernel)
                if shared_bytes > granted.get(device, _SHARED_BY_DEFAULT):
                    function.max_dynamic_shared_size_bytes = granted[device] = shared_bytes
                functions[device] = function
                places[device] = function.kernel.ptr
            return places[device]

        def frame_of(device: int) -> _Frame:
            self._cupy.cuda.runtime.memGetInfo()  # creates the device's context in this thread
            frames = local.__dict__.setdefault("frames", {})
            return frames.setdefault(device, _Frame(kernel.parameters))

        def launch(grid: tuple, block: tuple, arguments: tuple, shared_bytes: int) -> None:
            device = self._device()
            function = places.get(device)
            if function is None or shared_bytes > granted.get(device, _SHARED_BY_DEFAULT):
                function = prepare(device, shared_bytes)
            values = []
            for value, parameter in zip(arguments, kernel.parameters, strict=True):
                if not parameter.pointer:
                    values.append(value)
                elif value is None:
                    values.append(0)
                else:
                    memory = value.data
                    if memory.device_id != device and value.size:
                        raise TypeError(f"{kernel.name}: {parameter.name} is on GPU {memory.device_id}, expected the "
                                        f"current one, {device}: choose it with cupy.cuda.Device(...).use()")
                    values.append(memory.ptr)
            try:
                frame = local.frames[device]
            except (AttributeError, KeyError):
                frame = frame_of(device)
            frame.fill(values)
            status = start(function, *grid, *block, shared_bytes, self._stream().ptr, frame.address, None)
            if status:
                raise RuntimeError(f"{kernel.name}: {_name_of(status)} at {grid} blocks of {block} threads "
                                   f"with {shared_bytes} bytes of shared memory; an earlier launch may be the cause")

        return launch

    def load(self, kernel: Kernel) -> Any:
        """CuPy's function, compiled for the current device or loaded from disk.  Raises CompileError."""
        module = self._cupy.RawModule(code=kernel.source.text, options=options_of(kernel))
        try:
            return module.get_function(kernel.name)
        except self._cupy.cuda.compiler.CompileException as error:
            raise CompileError(kernel, str(error)) from error


def _name_of(status: int) -> str:
    """The name of a CUDA error."""
    name = ctypes.c_char_p()
    driver_library().cuGetErrorName(status, ctypes.byref(name))
    return (name.value or b"error %d" % status).decode()
