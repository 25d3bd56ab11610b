"""Scratch memory of each thread, kept between the blocks of a kernel."""

from __future__ import annotations

import threading

import numpy as np

_KEPT_BYTES = 8 << 20  # of a name: what is larger lives as long as its user holds it
_arrays = threading.local()


def scratch(name: str, size: int, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """(size,) numbers of the calling thread, whatever the last user of that name left in them, and
    their address."""
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
