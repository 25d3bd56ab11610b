"""Numbers that the host needs from a GPU: the only place in the kernels that waits for one.

How many sites a filter reaches, for instance, decides how much memory comes next.  `fetch` brings several
such numbers in one transfer and counts how often it was called, so that a benchmark can state the number of
synchronisations of a step.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from sparsenet.backend import array_module

_state = threading.local()


def fetch(*numbers: Any) -> list[int]:
    """The integers in some one-dimensional arrays, one after another.  Waits for the GPU once."""
    _state.count = fetches() + 1
    xp = array_module(*numbers)
    if len(numbers) == 1:
        return numbers[0].tolist()
    return xp.concatenate([array.astype(np.int64) for array in numbers]).tolist()


def fetches() -> int:
    """How often this thread has called `fetch`."""
    return getattr(_state, "count", 0)
