"""Scratch memory of each thread, kept between the blocks of a kernel."""

from __future__ import annotations

import threading

import numpy as np

_KEPT_BYTES = 8 << 20  # of a name: larger arrays are freed after use
_arrays = threading.local()


def scratch(name: str, size: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """(size,) numbers of the calling thread, with any values, and their address.  The same name gives
    the same memory again."""
    kept = _arrays.__dict__.setdefault("kept", {})
    key = (name, np.dtype(dtype).char)
    if key in kept and kept[key][0].size >= size:
        array, address = kept[key]
        return array[:size], address
    array = np.empty(size, dtype)
    address = array.ctypes.data
    if array.nbytes <= _KEPT_BYTES:
        kept[key] = array, address
    return array, address
