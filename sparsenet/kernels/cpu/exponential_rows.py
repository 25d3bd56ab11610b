"""Steps of a softmax over a row of float32 numbers, which begins at `row` of an array of one axis.

They are inlined by Numba, so that a known length is a constant in them.  The first numbers fill whole vectors of lanes,
`rest` of them remain.  The order of a sum, and so its bits, depends on the width.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.cpu.exponential import exponential
from sparsenet.kernels.cpu.lanes import load, load_some, maximum, prefetch, store, store_some
from sparsenet.kernels.cpu.lanes_joined import maximum_of, total_of

ROW_WIDTH = 16  # lanes
_LOWEST = np.float32(-np.inf)


@numba.njit(inline="always")
def largest(numbers, row, length):
    """The largest of a row; of a row with NaN any of it."""
    rest = length % ROW_WIDTH
    full = length - rest
    found = load_some(numbers, row + full, rest, _LOWEST, ROW_WIDTH)
    for j in range(row, row + full, ROW_WIDTH):
        found = maximum(load(numbers, j, ROW_WIDTH), found)
    return maximum_of(found)


@numba.njit(inline="always")
def exponentials(numbers, row, length, top, terms, place):
    """exp(numbers - top) goes to `terms` from `place` on, whole vectors; returns the sum."""
    rest = length % ROW_WIDTH
    full = length - rest
    total = exponential(load_some(numbers, row + full, rest, _LOWEST, ROW_WIDTH) - top)
    if rest:
        store(terms, place + full, total)
    for j in range(0, full, ROW_WIDTH):
        e = exponential(load(numbers, row + j, ROW_WIDTH) - top)
        store(terms, place + j, e)
        total = total + e
    return total_of(total)


@numba.njit(inline="always")
def scale_row(terms, place, length, scale, out, there):
    """out[there : there + length] = the terms from `place` on, times `scale`."""
    rest = length % ROW_WIDTH
    full = length - rest
    for j in range(0, full, ROW_WIDTH):
        store(out, there + j, load(terms, place + j, ROW_WIDTH) * scale)
    if rest:
        store_some(out, there + full, rest, load(terms, place + full, ROW_WIDTH) * scale)


@numba.njit(inline="always")
def prefetch_row(numbers, row, length):
    for j in range(0, length, ROW_WIDTH):
        prefetch(numbers, row + j, ROW_WIDTH)
