"""Scratch memory of each thread, kept between the blocks of a kernel."""

from __future__ import annotations

import threading

import numpy as np

_arrays = threading.local()


def scratch(name: str, size: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """(size,) numbers of the calling thread, whatever the last user of that name left in them, and
    their address."""
    kept = _arrays.__dict__.setdefault("kept", {})
    key = (name, np.dtype(dtype).char)
    if key not in kept or kept[key][0].size < size:
        array = np.empty(size, dtype)
        kept[key] = array, array.ctypes.data
    array, address = kept[key]
    return array[:size], address
