"""Which output cells an input coordinate reaches through a box-shaped filter, axis by axis."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np


class Reach:
    """What each input coordinate reaches, axis by axis; grids of fewer than 4 axes get leading ones of 1 cell.

    For the coordinate c of axis a, entry e = first[a] + c:  count[e] offsets join it to an output, and
    the i-th of them adds offset[e, i] to the offset's number and cell[e, i] to the output's cell.  least[e]
    and window[e] are the lowest such cell, and a bit for each cell from there to the highest; window is 0
    where those are more than a word.
    """

    def __init__(self, spatial_size, output_size, kernel_size, stride, padding, dilation):
        lead = 4 - len(spatial_size)
        axes = [(1, 1, 1, 1, 0, 1)] * lead + list(zip(spatial_size, output_size, kernel_size, stride, padding,
                                                      dilation, strict=True))
        first = np.cumsum([0, *(axis[0] for axis in axes[:-1])])
        count = np.zeros(sum(axis[0] for axis in axes), np.int64)
        offset = np.zeros((len(count), max(kernel_size)), np.int64)
        cell = np.zeros_like(offset)
        cells, offsets, self.most = 1, 1, 1
        for a in reversed(range(4)):
            size, side, kernel, *_ = axes[a]
            joined = axis_map(*axes[a])
            entries = slice(first[a], first[a] + size)
            order = np.argsort(joined < 0, axis=0, kind="stable")  # those that reach a cell, in their order
            count[entries] = (joined >= 0).sum(axis=0)
            offset[entries, :kernel] = order.T * offsets
            cell[entries, :kernel] = np.take_along_axis(joined, order, axis=0).T * cells
            cells, offsets = cells * side, offsets * kernel
            self.most *= max(1, int(count[entries].max()))  # pairs of a site
        reached = np.arange(offset.shape[1]) < count[:, None]
        least = np.where(reached, cell, np.iinfo(np.int64).max).min(axis=1)
        spans = np.where(reached, cell - least[:, None], 0).max(axis=1)
        window = np.where(spans < 63, (2 << np.minimum(spans, 62)) - 1, 0)
        self.cells, self.offsets = cells, offsets
        self.tables = first, count, offset, cell, least, window
        # of the first two axes that are no single cell, to find the inputs of a range of cells
        wide = [axis for axis in axes[lead:] if axis[0] > 1 or axis[1] > 1][:2] or axes[-1:]
        self.cells_in = prod(spatial_size)
        self.wide = wide + [(1, 1, 1, 1, 0, 1)] * (2 - len(wide))
        self.lines_in = prod(axis[0] for axis in self.wide)
        self.lines_out = prod(axis[1] for axis in self.wide)

    def inputs(self, keys, samples, low, high):
        """(T, X, 2) rows, from and to: runs of inputs among which are all that reach cells low to high - 1 of
        their sample.  One run where those cells lie in several planes of the first axis; where they lie in one, a run
        for each plane of inputs that it sees, cut by the second axis."""
        (size, side, kernel, stride, padding, dilation), second = self.wide
        line_in, line_out = self.cells_in // self.lines_in, self.cells // self.lines_out
        plane_in, plane_out = line_in * second[0], line_out * second[1]
        first, last = low // plane_out, (high - 1) // plane_out
        seen = dilation * (kernel - 1) + 1  # planes of inputs
        lowest, highest = _seen((first, last), (size, side, kernel, stride, padding, dilation))
        planes = np.clip(first[:, None] * stride - padding + np.arange(min(seen, size + seen - 1)), 0, size)
        inner = _seen((low // line_out % second[1], (high - 1) // line_out % second[1]), second)
        runs = planes[..., None] * plane_in + np.stack(inner, axis=-1)[:, None] * line_in
        inside = (planes < size) & (first[:, None] * stride - padding + np.arange(planes.shape[1]) == planes)
        runs[~inside] = 0
        runs[first != last] = 0
        runs[first != last, 0] = np.stack([lowest, highest], axis=1)[first != last] * plane_in
        rows = np.searchsorted(keys, samples[:, None, None] * self.cells_in + runs)
        return np.where((runs[..., 1] > runs[..., 0])[..., None], rows, 0)


def _seen(outputs, axis) -> tuple[np.ndarray, np.ndarray]:
    """The first input coordinate that outputs from ... to see along an axis, and one past the last."""
    size, _, kernel, stride, padding, dilation = axis
    return (np.clip(outputs[0] * stride - padding, 0, size),
            np.clip(outputs[1] * stride - padding + dilation * (kernel - 1) + 1, 0, size))


reach_of = lru_cache(maxsize=16)(Reach)  # a network's filters, some KB each: see `rulebook_bits.fits`


def axis_map(size_in, size_out, kernel, stride, padding, dilation) -> np.ndarray:
    """(kernel, size_in) int64: the output coordinate that offset k joins to each input
    coordinate, or -1."""
    reach = np.arange(size_in)[None, :] + padding - dilation * np.arange(kernel)[:, None]
    inside = (reach % stride == 0) & (reach >= 0) & (reach // stride < size_out)
    return np.where(inside, reach // stride, -1)
