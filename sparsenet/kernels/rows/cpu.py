"""Segment reductions: each run of consecutive rows is reduced to one row.

    values (N, C)      r0 r1 r2 | r3 r4 |  | r5 ... r(N-1)
    splits (S+1,)      0          3       5  5              N
    result (S, C)      r0+r1+r2   r3+r4   0  ...

A segment is cut into chunks at borders that depend on `splits` alone; one thread (on a GPU, a block) reduces each
chunk, short ones several at a time, and the chunks of a segment are joined in order.  Sums are in float64.  The bits do
not depend on the number of threads.

Splits that do not rise from 0 to N raise on a CPU; on a GPU, which the host would have to wait for, the result is
undefined.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.cpu.chunks import chunks_of
from sparsenet.kernels.cpu.lanes import doubles, load, prefetch, store
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.rows import samples, unions  # noqa: F401  (registers their kernels)
from sparsenet.kernels.rows.contract import SEGMENT_MAX, SEGMENT_SUM

CHUNK = 4096  # rows
_WIDTH, _NARROW = 32, 8  # channels that a CPU sums side by side
_ROWS = 64  # rows that stay in the first cache, with some hundred channels, until all channels are summed
_AHEAD = 16  # rows: how early they are prefetched


@SEGMENT_SUM.implementation("cpu")
def segment_sum_cpu(values: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """(S, C) sums in the dtype of `values`; an empty segment gives zeros.  Without splits all rows are one
    segment: (1, C)."""
    splits = np.array([0, len(values)]) if splits is None else splits
    starts, stops, owners = chunks_of(splits, CHUNK)
    partial = np.zeros((len(starts), values.shape[1]), np.float64)
    run_rows(lambda first, last: _sum_chunks(values, starts, stops, first, last, partial), len(starts),
             _chunks_together(values, starts))
    result = np.zeros((len(splits) - 1, values.shape[1]), np.float64)
    _join_sums(partial, owners, result)
    return result.astype(values.dtype, copy=False)


@SEGMENT_MAX.implementation("cpu")
def segment_max_cpu(values: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, C) maxima and their rows (S, C) int64, the first if there are several; NaN wins.

    An empty segment gives -inf and row -1.
    """
    starts, stops, owners = chunks_of(splits, CHUNK)
    shape = (len(starts), values.shape[1])
    partial, partial_rows = np.empty(shape, values.dtype), np.empty(shape, np.int64)
    run_rows(lambda first, last: _max_chunks(values, starts, stops, first, last, partial, partial_rows), len(starts),
             _chunks_together(values, starts))
    result = np.full((len(splits) - 1, values.shape[1]), -np.inf, values.dtype)
    rows = np.full(result.shape, -1, np.int64)
    _join_maxima(partial, partial_rows, owners, result, rows)
    return result, rows


def _chunks_together(values: np.ndarray, starts: np.ndarray) -> int:
    """Chunks that one thread takes at a time: as many as have CHUNK rows, if they are equally long."""
    return max(1, CHUNK * len(starts) // max(1, len(values)))


@compiled
def _sum_chunks(values, starts, stops, first, last, partial):
    for b in range(first, last):
        _sum_rows(values, starts[b], stops[b], partial[b])


@compiled
def _max_chunks(values, starts, stops, first, last, partial, partial_rows):
    for b in range(first, last):
        _max_rows(values, starts[b], stops[b], partial[b], partial_rows[b])


@compiled
def _sum_rows(values, start, stop, out):
    """The sums of several channels stay in registers over _ROWS rows."""
    for above in range(start, stop, _ROWS):
        below, first = min(above + _ROWS, stop), 0
        while first + _WIDTH <= out.size:
            total = load(out, first, _WIDTH)
            for row in range(above, below):
                prefetch(values, (row + _AHEAD, first), _WIDTH)
                total = total + doubles(load(values, (row, first), _WIDTH))
            store(out, first, total)
            first += _WIDTH
        while first + _NARROW <= out.size:
            total = load(out, first, _NARROW)
            for row in range(above, below):
                total = total + doubles(load(values, (row, first), _NARROW))
            store(out, first, total)
            first += _NARROW
        for c in range(first, out.size):
            for row in range(above, below):
                out[c] += values[row, c]


@compiled
def _join_sums(partial, owners, out):
    for b in range(partial.shape[0]):
        for c in range(partial.shape[1]):
            out[owners[b], c] += partial[b, c]


@numba.njit(inline="always")
def _wins(value, best):
    return value > best or (value != value and best == best)


@compiled
def _max_rows(values, start, stop, out, out_rows):
    for c in range(values.shape[1]):
        out[c] = values[start, c]
        out_rows[c] = start
    for row in range(start + 1, stop):
        for c in range(values.shape[1]):
            if _wins(values[row, c], out[c]):
                out[c] = values[row, c]
                out_rows[c] = row


@compiled
def _join_maxima(partial, partial_rows, owners, out, out_rows):
    for b in range(partial.shape[0]):
        segment = owners[b]
        for c in range(partial.shape[1]):
            if out_rows[segment, c] < 0 or _wins(partial[b, c], out[segment, c]):
                out[segment, c] = partial[b, c]
                out_rows[segment, c] = partial_rows[b, c]
