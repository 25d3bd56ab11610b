"""Counters on a GPU by which the last block to finish a piece of work knows that it is the last.

They are zero before a launch, and each kernel resets them to zero; so they are cleared once, not before each launch.
The launches of a stream run one after another, so they share the counters.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_MIN_COUNT = 1 << 12
_PER_THREAD = 2  # the handle of each thread's own default stream (cudaStreamPerThread)
_kept: dict[tuple[int, int, int], Any] = {}  # by device, stream, and thread if the handle does not identify the stream


def tickets(xp: Any, count: int) -> Any:
    """(n,) uint32 zeros, n at least `count`, on the current device, for the current stream."""
    if xp is np:
        return np.zeros(count, np.uint32)
    stream = int(xp.cuda.get_current_stream().ptr)
    thread = threading.get_ident() if stream == _PER_THREAD else 0
    place = int(xp.cuda.runtime.getDevice()), stream, thread
    found = _kept.get(place)
    if found is None or found.size < count:
        found = _kept[place] = xp.zeros(max(_MIN_COUNT, count), np.uint32)
    return found
