"""The sum of two arrays, by all threads of a CPU if they are large."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from sparsenet.kernels.table import launch

_LARGE = 1 << 20  # bytes: below, NumPy's own sum takes less time than the launch
_WIDTH, _MIN_WIDTH = 4096, 16  # of the rows that the elements are taken as


def added(x: Any, y: Any) -> Any:
    """x + y, of one shape and dtype; the same bits as that expression."""
    width = gcd(x.size, _WIDTH)
    if x.nbytes < _LARGE or width < _MIN_WIDTH or not (_is_plain(x) and _is_plain(y)):
        return x + y
    return launch("add_rows", x.reshape(-1, width), y.reshape(-1, width)).reshape(x.shape)


def _is_plain(array: Any) -> bool:
    return type(array) is np.ndarray and array.flags.c_contiguous and array.dtype in (np.float32, np.float64)
