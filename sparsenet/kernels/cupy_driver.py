"""Kernels on the GPU: compiled at their first launch by NVRTC through CuPy, which keeps the result on disk."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from sparsenet.backend import cupy
from sparsenet.kernels.cuda import CompileError, CudaKernel, Launch

OPTIONS = ("-std=c++17", "-lineinfo")  # the lines are for compute-sanitizer and profilers; they cost nothing
_SHARED_WITHOUT_ASKING = 48 * 1024  # bytes; more must be asked for, per kernel
_NULL = np.uintp(0)


def options_of(kernel: CudaKernel) -> tuple[str, ...]:
    """What CuPy is given; in one order, since CuPy finds what it keeps on disk by them."""
    target = (f"-arch={kernel.source.target}",) if kernel.source.target else ()  # beside CuPy's own, which it replaces
    return OPTIONS + target + tuple(f"-D{name}={value}" for name, value in sorted(kernel.defines.items()))


class CupyDriver:
    """Runs kernels on CuPy's current device and current stream.

    Raises RuntimeError where CuPy or a GPU is missing; the message says what to install.
    """

    def __init__(self) -> None:
        self._cupy = cupy()
        self._device = self._cupy.cuda.runtime.getDevice  # the number of the current device

    def address(self, array: Any, kernel: str, name: str) -> int:
        if not isinstance(array, self._cupy.ndarray):
            raise TypeError(f"{kernel}: {name} is {type(array).__name__}, expected an array on the GPU: move it with "
                            ".to('cuda') or cupy.asarray")
        memory = array.data
        if array.size and memory.device_id != self._device():
            raise TypeError(f"{kernel}: {name} is on GPU {memory.device_id}, expected the current one, "
                            f"{self._device()}: choose it with cupy.cuda.Device(...).use()")
        return memory.ptr

    def compile(self, kernel: CudaKernel) -> Launch:
        functions: dict[int, Any] = {}  # by device
        granted: dict[int, int] = {}  # bytes of shared memory asked for so far, by device
        lock = threading.Lock()

        def prepare(device: int, shared_bytes: int) -> Any:
            with lock:  # a thread that asks for less must not take back what another was granted
                function = functions.get(device) or self.load(kernel)
                if shared_bytes > granted.get(device, _SHARED_WITHOUT_ASKING):
                    function.max_dynamic_shared_size_bytes = granted[device] = shared_bytes
                functions[device] = function
            return function

        def launch(grid: tuple, block: tuple, arguments: tuple, shared_bytes: int) -> None:
            device = self._device()
            function = functions.get(device)
            if function is None or shared_bytes > granted.get(device, _SHARED_WITHOUT_ASKING):
                function = prepare(device, shared_bytes)
            function(grid, block, tuple(_NULL if value is None else value for value in arguments),
                     shared_mem=shared_bytes)

        return launch

    def load(self, kernel: CudaKernel) -> Any:
        """CuPy's function, compiled for the current device or found on disk.  Raises CompileError."""
        module = self._cupy.RawModule(code=kernel.source.text, options=options_of(kernel))
        try:
            return module.get_function(kernel.name)
        except self._cupy.cuda.compiler.CompileException as error:
            raise CompileError(kernel, str(error)) from error
