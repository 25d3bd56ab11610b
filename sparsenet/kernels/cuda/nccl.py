"""Arrays of one GPU sent to another, by NCCL's send and receive through CuPy.

NCCL's all-reduce is never used: it adds in an order that depends on the number of GPUs.  Not yet run on a machine with
several GPUs: the tests run it against a stand-in of CuPy's module.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sparsenet.backend import cupy

_TYPES = {"float32": "NCCL_FLOAT32", "float64": "NCCL_FLOAT64", "int64": "NCCL_INT64", "uint8": "NCCL_UINT8"}


def nccl() -> ModuleType:
    """CuPy's module of NCCL.

    Raises RuntimeError without CuPy, a GPU or NCCL.
    """
    module = cupy().cuda
    if not getattr(module, "nccl", None) or not module.nccl.available:
        raise RuntimeError("training on several GPUs needs NCCL, which this CuPy does not find: install "
                           "nvidia-nccl-cu12 (CUDA 12) or nvidia-nccl-cu13 (CUDA 13)")
    return module.nccl


def unique_id() -> Any:
    """The name of a new group of processes, made by one of them for all."""
    return nccl().get_unique_id()


class NcclLink:
    """Sends and receives arrays on GPUs, in the order of the current stream: a kernel launched later sees what arrived.

    size, rank : the number of processes, each with its GPU, and that of this one
    name : `unique_id` of one of them
    module : CuPy's `cuda.nccl`, or a stand-in;  stream : the address of the stream, by default the current one's
    """

    def __init__(self, size: int, rank: int, name: Any, module: Any = None, stream: int | None = None):
        self._nccl = nccl() if module is None else module
        self._stream = stream
        self._communicator = self._nccl.NcclCommunicator(size, name, rank)

    def send(self, array: Any, to: int) -> None:
        self._communicator.send(array.data.ptr, array.size, self._type(array), to, self._current())

    def receive(self, array: Any, source: int) -> None:
        self._communicator.recv(array.data.ptr, array.size, self._type(array), source, self._current())

    def _type(self, array: Any) -> int:
        if not array.flags.c_contiguous or array.dtype.name not in _TYPES:
            raise TypeError(f"NcclLink: the array is {array.dtype}, contiguous {bool(array.flags.c_contiguous)}, "
                            f"expected a contiguous one of {', '.join(_TYPES)}")
        return getattr(self._nccl, _TYPES[array.dtype.name])

    def _current(self) -> int:
        return cupy().cuda.get_current_stream().ptr if self._stream is None else self._stream
