"""Which array module an array belongs to: the only place that looks for CuPy.

A device is named "cpu" (NumPy arrays) or "cuda" (CuPy arrays).  CuPy is imported when the first CUDA array is
requested, never before.

A backend computes: "cpu" (Numba) and "cuda" (CuPy) on the device of the same name; "reference", the formulas of the
kernels in NumPy alone, on a CPU if `set_backend` or SPARSENET_BACKEND chooses it.
"""

from __future__ import annotations

import os
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np

DEVICES = ("cpu", "cuda")
REFERENCE = "reference"
_DLPACK_GPU = (2, 13)  # CUDA's memory and its managed memory, as DLPack numbers devices
HALF = np.dtype(np.float16)
# The dtypes of features on each device.
FLOAT_DTYPES = {
    "cpu": (np.dtype(np.float32), np.dtype(np.float64)),
    "cuda": (np.dtype(np.float32), np.dtype(np.float64), HALF),
}


def wide_dtype(dtype: Any) -> np.dtype:
    """The dtype in which features of `dtype` are accumulated: float32 for float16, else the same."""
    return np.dtype(np.float32) if dtype == HALF else np.dtype(dtype)


def check_float_dtype(subject: str, dtype: np.dtype, device: str) -> None:
    """Raise TypeError unless `device` supports features of that dtype.

    subject : the beginning of the message, such as "add: x is"

    Also raises ValueError for an unknown device.
    """
    _check_device(device)
    if dtype in FLOAT_DTYPES[device]:
        return
    if dtype == HALF:
        raise TypeError(f"{subject} float16, expected float32 or float64 on a CPU: float16 features are for the GPU: "
                        "convert to float32 or move to cuda")
    raise TypeError(f"{subject} {dtype}, expected float32 or float64 (on a GPU float16 too): convert with "
                    ".astype('float32')")


def cupy() -> ModuleType:
    """The module CuPy, once it has found a GPU.

    Raises
    ------
    RuntimeError : CuPy is not installed, or finds no GPU; the message says what to do.
    """
    try:
        import cupy as module
    except ImportError as error:
        raise RuntimeError(
            "device 'cuda' needs CuPy: pip install 'sparsenet[cuda12x]' (CUDA 12) or "
            "'sparsenet[cuda13x]' (CUDA 13), or use device 'cpu'"
        ) from error
    if not module.cuda.is_available():
        raise RuntimeError(
            f"device 'cuda': CuPy {module.__version__} is installed but finds no GPU: check the "
            "driver (nvidia-smi), or use device 'cpu'"
        )
    return module


def device_of(*arrays: Any) -> str:
    """The device of all the arrays, "cpu" or "cuda"; `None` entries are skipped, and without arrays it is "cpu".

    Raises
    ------
    TypeError : an entry is not a NumPy or CuPy array, or the devices differ.
    """
    common = None
    for array in arrays:
        if array is not None:
            device = "cpu" if type(array) is np.ndarray else _device_of_one(array)
            if common is not None and device != common:
                raise TypeError("arrays are on different devices (cpu and cuda): move them with .to(device)")
            common = device
    return common or "cpu"


def _device_of_one(array: Any) -> str:
    module = sys.modules.get("cupy")  # a CuPy array exists only if CuPy was imported
    if module is not None and (type(array) is module.ndarray or isinstance(array, module.ndarray)):
        return "cuda"
    if isinstance(array, (np.ndarray, np.generic)):
        return "cpu"
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")


def array_class(array: Any) -> tuple[str, type | None]:
    """The device of an array and the array class of that device; ("cpu", None) for anything else."""
    if type(array) is np.ndarray:
        return "cpu", np.ndarray
    module = sys.modules.get("cupy")
    if module is not None and type(array) is module.ndarray:
        return "cuda", module.ndarray
    return "cpu", None


def adopted(value: Any) -> Any:
    """A NumPy or CuPy array over the memory of another library's array, if `value` is one that speaks DLPack, such as a
    tensor of PyTorch; else `value` itself.

    Raises
    ------
    TypeError : it cannot be read: it requires a gradient, or NumPy lacks its dtype.
    RuntimeError : it is on a GPU, and there is no CuPy (see `cupy`).
    """
    if type(value) is np.ndarray or not hasattr(value, "__dlpack__") or hasattr(value, "array"):  # the last: a Tensor
        return value
    if isinstance(value, (np.ndarray, np.generic)) or array_class(value)[1] is not None:
        return value
    module = cupy() if value.__dlpack_device__()[0] in _DLPACK_GPU else np
    try:
        return module.from_dlpack(value)
    except (BufferError, RuntimeError) as error:
        raise TypeError(f"Tensor: the array is a {type(value).__module__}.{type(value).__name__} that cannot be read: "
                        f"{error}") from error


def array_module(*arrays: Any) -> ModuleType:
    """The module whose functions work on these arrays, NumPy or CuPy.  Raises TypeError as `device_of` does."""
    return np if device_of(*arrays) == "cpu" else sys.modules["cupy"]


def to_device(array: Any, device: str) -> Any:
    """The array on `device` ("cpu" or "cuda"); the same object if it is there already.

    Raises ValueError for an unknown device, RuntimeError if there is no GPU (see `cupy`).
    """
    _check_device(device)
    here = device_of(array)
    if here == device:
        return array
    if device == "cuda":
        return cupy().asarray(array)
    count_wait()
    return array.get()


_chosen: list[str | None] = []  # the choice of set_backend, or of SPARSENET_BACKEND at first use


def set_backend(name: str | None) -> None:
    """Choose the backend for all threads of this process.

    name : "reference": every kernel as its formula in NumPy, slow, without compiled code that a debugger would step
        over; None: the backend of the arrays' device, whatever SPARSENET_BACKEND says

    Raises
    ------
    ValueError : another name.
    """
    _chosen[:] = [_checked_backend("set_backend: name", name)]


def get_backend() -> str | None:
    """"reference" if `set_backend` or the environment variable SPARSENET_BACKEND chose it, else None.

    Raises ValueError if SPARSENET_BACKEND holds another name.
    """
    if not _chosen:
        _chosen.append(_checked_backend("SPARSENET_BACKEND", os.environ.get("SPARSENET_BACKEND") or None))
    return _chosen[0]


def _checked_backend(subject: str, name: str | None) -> str | None:
    if name not in (REFERENCE, None):
        raise ValueError(f"{subject} is {name!r}, expected {REFERENCE!r} or none: cpu and cuda follow from where the "
                         "arrays are, which .to(device) moves")
    return name


def backend_on(device: str, wanted: str | None = None) -> str:
    """The backend for arrays on `device`: `wanted` if given, else the chosen one, else that of the device.

    Raises
    ------
    TypeError : it is "reference" and the arrays are on a GPU.
    """
    wanted = wanted or get_backend() or device
    if wanted == REFERENCE and device != "cpu":
        raise TypeError("the reference backend computes with NumPy arrays, these are on a GPU: move them with "
                        ".to('cpu'), or sn.set_backend(None)")
    return wanted


_waiting = threading.local()


def waits() -> int:
    """How often this thread has waited for a GPU to copy an array or numbers to the host."""
    return getattr(_waiting, "count", 0)


def count_wait() -> None:
    """Record that this thread is about to wait for a GPU."""
    _waiting.count = waits() + 1


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise ValueError(f"device is 'cpu' or 'cuda', got {device!r}")


def rectangular(operation: str, value: Any) -> np.ndarray:
    """A number or nested lists of numbers as an array.  Raises ValueError if lists side by side differ in length."""
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{operation}: lists side by side differ in length or depth, expected rows of one "
                         "length") from None
