"""Numbers that the host needs from a GPU: the only place in the kernels that waits for one.

How many sites a filter reaches, for instance, decides how much memory comes next.  `fetch` brings several
such numbers in one transfer and counts how often it was called, so that a benchmark can state the number of
synchronisations of a step.
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
# Copies begun, each with the memory that it goes to: if nobody waits for one, that memory must not be used again
# before the copy is done.
_under_way: deque[tuple[Any, Any]] = deque()


def fetch(*numbers: Any) -> list[int]:
    """The integers in some one-dimensional arrays, one after another.  Waits for the GPU once."""
    _state.count = fetches() + 1
    count_wait()
    xp = array_module(*numbers)
    if len(numbers) == 1:
        return numbers[0].tolist()
    return xp.concatenate([array.astype(np.int64, copy=False) for array in numbers]).tolist()


def fetch_later(array: Any) -> Callable[[], np.ndarray]:
    """Begin to bring a small array to the host; the function that comes back gives it, and waits for the GPU only until
    it was computed, not for what was launched after this."""
    if device_of(array) == "cpu":
        return lambda: array
    cuda = array_module(array).cuda
    memory = cuda.alloc_pinned_memory(max(1, array.nbytes))  # a copy to any other waits for the GPU itself
    host = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    array.get(out=host, blocking=False)
    copied = cuda.Event(disable_timing=True)
    copied.record()
    with _lock:
        while _under_way and _under_way[0][0].done:
            _under_way.popleft()
        _under_way.append((copied, memory))

    def wait() -> np.ndarray:
        count_wait()
        copied.synchronize()
        return host

    return wait


def fetches() -> int:
    """How often this thread has called `fetch`."""
    return getattr(_state, "count", 0)
