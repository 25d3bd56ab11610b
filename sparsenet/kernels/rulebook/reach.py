"""Which output cells an input coordinate reaches through a box-shaped filter, axis by axis."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numba
import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.search import lower_bound
from sparsenet.kernels.rulebook.joined import joined_cells

_NOWHERE = 1 << 60  # a cell beyond every grid that bit maps are made for; four of them still fit int64


class Reach:
    """What each input coordinate reaches, axis by axis; grids of fewer than 4 axes get leading ones of 1 cell.

    For the coordinate c of axis a, entry e = first[a] + c:  count[e] offsets join it to an output, and
    the i-th of them adds offset[e, i] to the offset's number and cell[e, i] to the output's cell.  least[e]
    and window[e] are the lowest such cell (2^60 where there is none), and a bit for each such cell, bit 0 for the
    lowest; window is 0 where they do not fit 63 bits.  `lines` is how many lines of cells, along the last axis,
    a site reaches at most.
    """

    def __init__(self, spatial_size, output_size, kernel_size, stride, padding, dilation):
        lead = 4 - len(spatial_size)
        axes = [(1, 1, 1, 1, 0, 1)] * lead + list(zip(spatial_size, output_size, kernel_size, stride, padding,
                                                      dilation, strict=True))
        first = np.cumsum([0, *(axis[0] for axis in axes[:-1])])
        count = np.zeros(sum(axis[0] for axis in axes), np.int64)
        offset = np.zeros((len(count), max(kernel_size)), np.int64)
        cell = np.zeros_like(offset)
        cells, offsets, self.most, self.lines = 1, 1, 1, 1
        for a in reversed(range(4)):
            size, side, kernel, *_ = axes[a]
            joined = joined_cells(np.arange(size), *axes[a][1:])
            entries = slice(first[a], first[a] + size)
            order = np.argsort(joined < 0, axis=0, kind="stable")  # those that reach a cell, in their order
            count[entries] = (joined >= 0).sum(axis=0)
            offset[entries, :kernel] = order.T * offsets
            cell[entries, :kernel] = np.take_along_axis(joined, order, axis=0).T * cells
            cells, offsets = cells * side, offsets * kernel
            self.most *= max(1, int(count[entries].max()))  # pairs of a site
            self.lines *= max(1, int(count[entries].max())) if a < 3 else 1
        reached = np.arange(offset.shape[1]) < count[:, None]
        least = np.where(reached, cell, _NOWHERE).min(axis=1)
        spans = np.where(reached, cell - least[:, None], 0)
        bits = np.where(reached, np.int64(1) << np.minimum(spans, 62), 0)
        window = np.where(spans.max(axis=1) < 63, np.bitwise_or.reduce(bits, axis=1), 0)
        self.cells, self.offsets = cells, offsets
        self.tables = first, count, offset, cell, least, window
        # of the first two axes that are no single cell, to find the inputs of a range of cells
        wide = [axis for axis in axes[lead:] if axis[0] > 1 or axis[1] > 1][:2] or axes[-1:]
        self.cells_in = prod(spatial_size)
        self.wide = wide + [(1, 1, 1, 1, 0, 1)] * (2 - len(wide))
        self.planes = self.wide[0][2]  # of inputs that a plane of outputs sees: one for each offset of the first axis

    def inputs(self, keys, samples, low, high):
        """(T, X, 2) rows, from and to: runs of inputs among which are all that reach cells low to high - 1 of
        their sample.  One run where those cells lie in several planes of the first axis; where they lie in one, a run
        for each plane of inputs that it sees, cut by the second axis."""
        runs = np.zeros((len(samples), self.planes, 2), np.int64)
        _find_inputs(keys, samples, low, high, self.cells_in, self.cells, *self.wide, runs)
        return runs


@compiled
def _find_inputs(keys, samples, low, high, cells_in, cells, first_axis, second_axis, runs):
    line_in = cells_in // (first_axis[0] * second_axis[0])
    line_out = cells // (first_axis[1] * second_axis[1])
    plane_in, plane_out = line_in * second_axis[0], line_out * second_axis[1]
    for t in range(samples.size):
        base = samples[t] * cells_in
        first, last = low[t] // plane_out, (high[t] - 1) // plane_out
        if first != last:
            begin, end = _seen(first, last, first_axis)
            _set_run(keys, base + begin * plane_in, base + end * plane_in, runs[t, 0])
            continue
        begin, end = _seen(low[t] // line_out % second_axis[1], (high[t] - 1) // line_out % second_axis[1], second_axis)
        for i in range(runs.shape[1]):
            plane = first * first_axis[3] - first_axis[4] + i * first_axis[5]
            if 0 <= plane < first_axis[0]:
                start = base + plane * plane_in
                _set_run(keys, start + begin * line_in, start + end * line_in, runs[t, i])


@numba.njit(nogil=True)
def _seen(low, high, axis):
    """The first input coordinate that outputs low to high see along an axis, and one past the last."""
    size, _, kernel, stride, padding, dilation = axis
    return (min(max(low * stride - padding, 0), size),
            min(max(high * stride - padding + dilation * (kernel - 1) + 1, 0), size))


@numba.njit(nogil=True)
def _set_run(keys, low, high, run):
    """The rows of the keys low to high - 1; both 0 where there are none."""
    if low < high:
        run[0], run[1] = lower_bound(keys, 0, keys.size, low), lower_bound(keys, 0, keys.size, high)


reach_of = lru_cache(maxsize=16)(Reach)  # a network's filters, some KB each: see `bits.fits`
