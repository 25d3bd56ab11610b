"""Which array module an array belongs to: the only place that looks for CuPy.

A device is named `"cpu"` (NumPy arrays) or `"cuda"` (CuPy arrays).  CuPy is imported when the
first CUDA array is asked for, never before.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

DEVICES = ("cpu", "cuda")
FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def cupy() -> ModuleType:
    """CuPy, with a device behind it.

    Raises
    ------
    RuntimeError : CuPy is not installed, or it finds no GPU; the message says what to do.
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
    """The device that all the arrays are on; `None` entries are passed over.

    Raises
    ------
    TypeError : an entry is no NumPy or CuPy array, or the devices differ.
    """
    devices = {_device_of_one(array) for array in arrays if array is not None}
    if len(devices) > 1:
        raise TypeError("arrays are on different devices (cpu and cuda): move them with .to(device)")
    return devices.pop() if devices else "cpu"


def _device_of_one(array: Any) -> str:
    module = sys.modules.get("cupy")  # an array of CuPy exists only if CuPy was imported
    if module is not None and isinstance(array, module.ndarray):
        return "cuda"
    if isinstance(array, (np.ndarray, np.generic)):
        return "cpu"
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")


def array_module(*arrays: Any) -> ModuleType:
    """NumPy or CuPy: the module whose functions work on these arrays (see `device_of`)."""
    return np if device_of(*arrays) == "cpu" else sys.modules["cupy"]


def to_device(array: Any, device: str) -> Any:
    """The array on `device` ("cpu" or "cuda"); the same object where it is there already."""
    if device not in DEVICES:
        raise ValueError(f"device is 'cpu' or 'cuda', got {device!r}")
    here = device_of(array)
    if here == device:
        return array
    return cupy().asarray(array) if device == "cuda" else array.get()
