"""Sums and means over the windows of a rulebook; average pooling and sum pooling.

    out[m] = (sum over k of  features[windows[m, k]]  + inactive cells of m * background) / cells of m

An entry -1 of a window is an inactive cell, -2 a cell outside the grid, which does not exist.  Without a background
inactive cells do not count either.  A sum is not divided; a window without a cell gives 0.

    forward     blocks of rows of `windows`:               sums of rows of the features
    backward    blocks of rows of the transposed ones:     sums of rows of the gradient, times 1 / cells of m

so that one loop serves both: the offsets of a row that name another are bits of words, taken one after the other
without a branch to predict, and the sums of 32 channels stay in registers.  A row is written once, by one thread.  The
cells of each window, and the sums that the backgrounds get, come first, chunk by chunk of the rows of a sample; chunks
depend on sizes alone and are joined in order.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.contracts import SUM_POOL_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import SUM_POOL_FORWARD as FORWARD
from sparsenet.kernels.cpu.bits import lowest, ones
from sparsenet.kernels.cpu.lanes import fma, load, load_some, prefetch, spread, store, store_some
from sparsenet.kernels.cpu.lanes_joined import bits_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks, run_rows

_FLOATS = 1 << 16  # results (rows * channels) of a block
_CHUNK = 1024  # rows whose cells one thread counts
_WIDTH, _NARROW = 32, 16  # channels that are summed side by side
_OFFSETS = 32  # offsets that become bits at once; a word has 64
_AHEAD = 8  # rows: how early the rows that a window names are prefetched
_INACTIVE, _OUTSIDE = np.int32(-1), np.int32(-2)  # entries of a window that are not rows
_NO_COORDINATES = np.zeros((0, 1), np.int32)


@FORWARD.implementation("cpu")
def _forward_cpu(features, background, windows, output_coordinates, mean):
    """(M, C); background has 1 row or one for each sample."""
    return _sums(features, None, background, windows, output_coordinates, mean)


@BACKWARD.implementation("cpu")
def _backward_cpu(gradient, rulebook, batch_splits, mean, with_background, to_background):
    """((N, C) gradient of the features, (B, C) gradient of the background in each sample, or None).  Without splits all
    rows count as one sample: (1, C)."""
    shares = lost = None
    if mean or to_background:
        splits = np.array([0, len(gradient)]) if batch_splits is None else batch_splits
        shares, lost = _shared_out(gradient, rulebook.windows, splits, (mean, with_background, to_background))
    to_features = _sums(gradient, shares if mean else None, None, rulebook.transposed_neighbours, _NO_COORDINATES,
                        False)
    return to_features, lost if to_background else None


def _sums(values, shares, background, windows, coordinates, mean):
    """For each window the sum or mean of the rows that it names and, for its inactive cells, of the background.

    shares : a factor for each row of the values, or None
    """
    rows, channels = len(windows), values.shape[1]
    out = np.empty((rows, channels), values.dtype)
    counts = background is not None
    filling = background if counts else np.zeros((1, channels), values.dtype)
    run_rows(lambda start, stop: _sum(values, shares, filling, counts, windows[start:stop], coordinates[start:stop],
                                      mean, out[start:stop]),
             rows, max(1, _FLOATS // max(channels, 1)))
    return out


@compiled
def _sum(values, shares, background, counts_inactive, windows, coordinates, mean, out):
    channels, nothing = values.shape[1], values.dtype.type(0)
    words, cells = _named_rows(windows)
    for m in range(windows.shape[0]):
        if shares is None:  # the gradient, with shares, is small, and read nearly in order
            _prefetch_rows(values, windows, m + _AHEAD, words[m + _AHEAD])
        active, sample = 0, coordinates[m, 0] if background.shape[0] > 1 else 0
        for piece in range(words.shape[1]):
            active += ones(words[m, piece])
        inactive = cells[m] - active if counts_inactive else 0
        times, divisor = values.dtype.type(inactive), values.dtype.type(max(1, active + inactive))
        first = 0
        while first + _WIDTH <= channels:
            total = spread(nothing, _WIDTH)
            for piece in range(words.shape[1]):
                waiting = words[m, piece]
                while waiting != 0:
                    n = windows[m, 64 * piece + lowest(waiting)]
                    waiting &= waiting - 1  # without the lowest bit
                    if shares is None:
                        total = total + load(values, (n, first), _WIDTH)
                    else:
                        total = fma(load(values, (n, first), _WIDTH), shares[n], total)
            if inactive > 0:  # else infinity in the background, times 0, would be NaN
                total = total + load(background, (sample, first), _WIDTH) * times
            if mean:
                total = total / divisor
            store(out, (m, first), total)
            first += _WIDTH
        while first < channels:
            rest = channels - first
            some = spread(nothing, _NARROW)
            for piece in range(words.shape[1]):
                waiting = words[m, piece]
                while waiting != 0:
                    n = windows[m, 64 * piece + lowest(waiting)]
                    waiting &= waiting - 1
                    if shares is None:
                        some = some + load_some(values, (n, first), rest, nothing, _NARROW)
                    else:
                        some = fma(load_some(values, (n, first), rest, nothing, _NARROW), shares[n], some)
            if inactive > 0:
                some = some + load_some(background, (sample, first), rest, nothing, _NARROW) * times
            if mean:
                some = some / divisor
            store_some(out, (m, first), rest, some)
            first += _NARROW


@numba.njit(inline="always")
def _named_rows(windows):
    """(M + _AHEAD, words) int64: a bit for each offset that names a row, none in the rows behind the last; and (M,) the
    number of entries that are cells of the grid."""
    rows, offsets = windows.shape
    words, cells = np.zeros((rows + _AHEAD, (offsets + 63) // 64), np.int64), np.zeros(rows, np.int64)
    for m in range(rows):
        for first in range(0, offsets, _OFFSETS):
            some = load_some(windows, (m, first), offsets - first, _OUTSIDE, _OFFSETS)
            words[m, first // 64] |= bits_of(some > _INACTIVE) << (first % 64)
            cells[m] += ones(bits_of(some > _OUTSIDE))
    return words, cells


@numba.njit(inline="always")
def _prefetch_rows(values, windows, m, words):
    for piece in range(words.size):
        waiting = words[piece]
        while waiting != 0:
            n = windows[m, 64 * piece + lowest(waiting)]
            waiting &= waiting - 1
            for c in range(0, values.shape[1], _WIDTH):
                prefetch(values, (n, c), _WIDTH)


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
    offsets = windows.shape[1]
    for m in range(start, stop):
        active = cells = 0
        for first in range(0, offsets, _OFFSETS):
            some = load_some(windows, (m, first), offsets - first, _OUTSIDE, _OFFSETS)
            active += ones(bits_of(some > _INACTIVE))
            cells += ones(bits_of(some > _OUTSIDE))
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
