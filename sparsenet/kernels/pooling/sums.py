"""Sums and means over the windows of a rulebook; average pooling and sum pooling.

    out[m] = (sum over k of  features[windows[m, k]]  + inactive cells of m * background) / cells of m

An entry -1 of a window is an inactive cell, -2 a cell outside the grid, which does not exist.  Without a background
inactive cells do not count either.  A sum is not divided; a window without a cell gives 0.

    forward     blocks of rows of `windows`:               sums of rows of the features
    backward    blocks of rows of the transposed ones:     sums of rows of the gradient, times 1 / cells of m

so that a row is written once, by one thread: the offsets of a row that name another are the bits of a word, taken one
after the other, and the sums of 32 channels stay in registers.  The shares, 1 / cells of each window, and the sums that
the backgrounds get come first, chunk by chunk of the rows of a sample; chunks depend on sizes alone and are joined in
order.  Forward reads the rows of the next windows ahead (ahead.py).  The word of a row is made while the row before it
is summed: so the processor, which predicts the end of most rows wrongly, notices at once.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.cpu.bits import lowest, ones
from sparsenet.kernels.cpu.lanes import fma, load, load_some, spread, store, store_some
from sparsenet.kernels.cpu.lanes_joined import bits_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks, run_rows
from sparsenet.kernels.pooling.ahead import AHEAD, read_rows
from sparsenet.kernels.pooling.contract import SUM_POOL_BACKWARD as BACKWARD
from sparsenet.kernels.pooling.contract import SUM_POOL_FORWARD as FORWARD

_FLOATS = 1 << 17  # results (rows * channels) of a block
_CHUNK = 2048  # rows whose cells one thread counts
_WIDTH, _NARROW = 32, 16  # channels that are summed side by side
_WORD = 32  # offsets that become the bits of a word
_INACTIVE, _OUTSIDE = np.int32(-1), np.int32(-2)  # entries of a window that are not rows


@FORWARD.implementation("cpu")
def _forward_cpu(features, background, windows, output_coordinates, mean):
    """(M, C); background has 1 row or one for each sample."""
    rows, channels = len(windows), features.shape[1]
    out = np.empty((rows, channels), features.dtype)
    counts = background is not None
    filling = background if counts else np.zeros((1, channels), features.dtype)
    run_rows(lambda start, stop: _average(features, filling, counts, windows[start:stop],
                                          output_coordinates[start:stop], mean, out[start:stop]),
             rows, max(1, _FLOATS // max(channels, 1)))
    return out


@BACKWARD.implementation("cpu")
def _backward_cpu(gradient, rulebook, batch_splits, mean, with_background, to_background):
    """((N, C) gradient of the features, (B, C) gradient of the background in each sample, or None).  Without splits all
    rows count as one sample: (1, C)."""
    (rows, channels), lost = gradient.shape, None
    shares = np.ones(rows, gradient.dtype)
    if mean or to_background:
        splits = np.array([0, rows]) if batch_splits is None else batch_splits
        shares, lost = _shared_out(gradient, rulebook.windows, splits, (mean, with_background, to_background))
    transposed = rulebook.transposed_neighbours
    out = np.empty((len(transposed), channels), gradient.dtype)
    run_rows(lambda start, stop: _collect(gradient, shares, transposed[start:stop], out[start:stop]),
             len(transposed), max(1, _FLOATS // max(channels, 1)))
    return out, lost if to_background else None


@compiled
def _average(values, background, counts_inactive, windows, coordinates, mean, out):
    (rows, offsets), channels, nothing = windows.shape, values.shape[1], values.dtype.type(0)
    step, begin, there = max(1, AHEAD // max(1, channels)), 0, -1  # `there`: the last row that is in the cache
    following, cells_there = _named(windows, 0, 0), _cells(windows, 0, 0)  # of the window that comes next
    for m in range(rows):
        if m == begin:
            begin = min(m + step, rows)
            there = read_rows(values, windows, m, begin, there)
        word, active, cells = following, ones(following), ones(cells_there)
        ahead = min(m + 1, rows - 1)
        following, cells_there = _named(windows, ahead, 0), _cells(windows, ahead, 0)
        for piece in range(_WORD, offsets, _WORD):
            active, cells = active + ones(_named(windows, m, piece)), cells + ones(_cells(windows, m, piece))
        inactive = cells - active if counts_inactive else 0
        sample = coordinates[m, 0] if background.shape[0] > 1 else 0
        times, divisor = values.dtype.type(inactive), values.dtype.type(max(1, active + inactive))
        first = 0
        while first + _WIDTH <= channels:
            total = spread(nothing, _WIDTH)
            for piece in range(0, offsets, _WORD):
                waiting = word if piece == 0 else _named(windows, m, piece)
                while waiting != 0:
                    n = windows[m, piece + lowest(waiting)]
                    waiting &= waiting - 1  # without the lowest bit
                    total = total + load(values, (n, first), _WIDTH)
            if inactive > 0:  # else infinity in the background, times 0, would be NaN
                total = total + load(background, (sample, first), _WIDTH) * times
            if mean:
                total = total / divisor
            store(out, (m, first), total)
            first += _WIDTH
        while first < channels:
            rest = channels - first
            some = spread(nothing, _NARROW)
            for piece in range(0, offsets, _WORD):
                waiting = word if piece == 0 else _named(windows, m, piece)
                while waiting != 0:
                    n = windows[m, piece + lowest(waiting)]
                    waiting &= waiting - 1
                    some = some + load_some(values, (n, first), rest, nothing, _NARROW)
            if inactive > 0:
                some = some + load_some(background, (sample, first), rest, nothing, _NARROW) * times
            if mean:
                some = some / divisor
            store_some(out, (m, first), rest, some)
            first += _NARROW


@compiled
def _collect(gradient, shares, transposed, out):
    (rows, offsets), channels, nothing = transposed.shape, gradient.shape[1], gradient.dtype.type(0)
    following = _named(transposed, 0, 0)  # of the row that comes next
    for n in range(rows):
        word, first = following, 0
        following = _named(transposed, min(n + 1, rows - 1), 0)
        while first + _WIDTH <= channels:
            total = spread(nothing, _WIDTH)
            for piece in range(0, offsets, _WORD):
                waiting = word if piece == 0 else _named(transposed, n, piece)
                while waiting != 0:
                    m = transposed[n, piece + lowest(waiting)]
                    waiting &= waiting - 1
                    total = fma(load(gradient, (m, first), _WIDTH), shares[m], total)
            store(out, (n, first), total)
            first += _WIDTH
        while first < channels:
            rest = channels - first
            some = spread(nothing, _NARROW)
            for piece in range(0, offsets, _WORD):
                waiting = word if piece == 0 else _named(transposed, n, piece)
                while waiting != 0:
                    m = transposed[n, piece + lowest(waiting)]
                    waiting &= waiting - 1
                    some = fma(load_some(gradient, (m, first), rest, nothing, _NARROW), shares[m], some)
            store_some(out, (n, first), rest, some)
            first += _NARROW


# Without a loop: of a function that has one, Numba counts references to the arrays, at each call.
@numba.njit(inline="always")
def _named(windows, m, first):
    """The 32 offsets of window m from `first` on as bits: 1 if the entry is a row."""
    return bits_of(load_some(windows, (m, first), windows.shape[1] - first, _OUTSIDE, _WORD) > _INACTIVE)


@numba.njit(inline="always")
def _cells(windows, m, first):
    """The same offsets: 1 if the entry is a cell of the grid."""
    return bits_of(load_some(windows, (m, first), windows.shape[1] - first, _OUTSIDE, _WORD) > _OUTSIDE)


def _shared_out(gradient, windows, splits, asked):
    """(M,) the share of a window's gradient that each of its cells gets, and (B, C) what the inactive cells of each
    sample get together.  asked : (mean, with_background, to_background)"""
    lengths, channels = np.diff(splits), gradient.shape[1]
    counts = -(-lengths // _CHUNK)
    owners = np.repeat(np.arange(len(lengths)), counts)
    starts = splits[owners] + _CHUNK * (np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts))
    stops = np.minimum(starts + _CHUNK, splits[owners + 1])
    shares, partial = np.empty(len(gradient), gradient.dtype), np.zeros((len(owners), channels))
    run_blocks(lambda b: _share_out(gradient, windows, starts[b], stops[b], asked, shares, partial[b]),
               len(owners))
    lost = np.zeros((len(lengths), channels))
    np.add.at(lost, owners, partial)  # one after the other
    return shares, lost.astype(gradient.dtype, copy=False)


@compiled
def _share_out(gradient, windows, start, stop, asked, shares, lost):
    mean, with_background, to_background = asked
    for m in range(start, stop):
        active = cells = 0
        for first in range(0, windows.shape[1], _WORD):
            active, cells = active + ones(_named(windows, m, first)), cells + ones(_cells(windows, m, first))
        inactive = cells - active if with_background else 0
        share = 1 / max(1, active + inactive) if mean else 1.0
        shares[m] = share
        if to_background and inactive > 0:
            for c in range(gradient.shape[1]):
                lost[c] += inactive * share * gradient[m, c]


@FORWARD.reads("cpu")
def _forward_reads(rulebook):
    return ("windows",)


@BACKWARD.reads("cpu")
def _backward_reads(rulebook):
    return ("windows", "transposed_neighbours")
