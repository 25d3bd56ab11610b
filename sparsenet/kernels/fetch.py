"""Numbers that the host needs from a GPU: the only place where kernels wait for one.

The number of output sites, for instance, determines how much memory to allocate next.  `fetch` copies several such
numbers in one transfer and counts its calls, so that a benchmark can state the number of synchronisations of a step.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from sparsenet.backend import array_module, count_wait, device_of

_state = threading.local()
_lock = threading.Lock()
# Copies in progress, each with its target memory, which must not be used again before the copy is done, even if nobody
# waits for it.
_in_progress: deque[tuple[Any, Any]] = deque()


def fetch(*numbers: Any) -> list[int]:
    """The integers of one or more one-dimensional arrays, in one list.  Waits for the GPU once."""
    _state.count = fetches() + 1
    count_wait()
    xp = array_module(*numbers)
    if len(numbers) == 1:
        return numbers[0].tolist()
    return xp.concatenate([array.astype(np.int64, copy=False) for array in numbers]).tolist()


def fetch_later(array: Any) -> Callable[[], np.ndarray]:
    """Start copying a small array to the host; returns a function, and calling it yields the array.  The call waits for
    the GPU only until the copy is done, not for kernels launched later."""
    if device_of(array) == "cpu":
        return lambda: array
    cuda = array_module(array).cuda
    memory = cuda.alloc_pinned_memory(max(1, array.nbytes))  # a copy to memory that is not pinned waits for the GPU
    host = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    array.get(out=host, blocking=False)
    copied = cuda.Event(disable_timing=True)
    copied.record()
    with _lock:
        while _in_progress and _in_progress[0][0].done:
            _in_progress.popleft()
        _in_progress.append((copied, memory))

    def wait() -> np.ndarray:
        count_wait()
        copied.synchronize()
        return host

    return wait


def fetches() -> int:
    """The number of calls of `fetch` by this thread."""
    return getattr(_state, "count", 0)
