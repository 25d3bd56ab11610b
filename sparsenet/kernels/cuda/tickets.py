"""Counters of a GPU by which the block that comes last to a piece of work knows that it is the last.

They are zeros before a launch, and each kernel leaves them so; hence they are cleared once, not before each launch.
Launches of one stream follow each other, so those of a stream share them.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_LEAST = 1 << 12
_PER_THREAD = 2  # the handle of each thread's own default stream (cudaStreamPerThread)
_kept: dict[tuple[int, int, int], Any] = {}  # by device, stream, and thread where the handle does not tell the stream


def tickets(xp: Any, count: int) -> Any:
    """(n,) uint32 zeros, n at least `count`, on the current device, for the current stream."""
    if xp is np:
        return np.zeros(count, np.uint32)
    stream = int(xp.cuda.get_current_stream().ptr)
    thread = threading.get_ident() if stream == _PER_THREAD else 0
    place = int(xp.cuda.runtime.getDevice()), stream, thread
    found = _kept.get(place)
    if found is None or found.size < count:
        found = _kept[place] = xp.zeros(max(_LEAST, count), np.uint32)
    return found
