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
        # of the first axis, to find the inputs of a range of cells
        self.inner_in, self.inner_out = prod(spatial_size[1:]), prod(output_size[1:])
        self.cells_in = prod(spatial_size)
        self.first_axis = stride[0], padding[0], dilation[0] * (kernel_size[0] - 1), spatial_size[0]

    def inputs(self, keys, samples, low, high):
        """(T, 2) rows: the inputs whose first coordinate can reach cells low to high - 1 of a sample."""
        stride, padding, extent, size = self.first_axis
        least = np.clip(low // self.inner_out * stride - padding, 0, size)
        most = np.clip((high - 1) // self.inner_out * stride - padding + extent + 1, 0, size)
        borders = samples[:, None] * self.cells_in + np.stack([least, most], axis=1) * self.inner_in
        return np.searchsorted(keys, borders)


reach_of = lru_cache(maxsize=64)(Reach)


def axis_map(size_in, size_out, kernel, stride, padding, dilation) -> np.ndarray:
    """(kernel, size_in) int64: the output coordinate that offset k joins to each input
    coordinate, or -1."""
    reach = np.arange(size_in)[None, :] + padding - dilation * np.arange(kernel)[:, None]
    inside = (reach % stride == 0) & (reach >= 0) & (reach // stride < size_out)
    return np.where(inside, reach // stride, -1)
