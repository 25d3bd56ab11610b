"""The output cells to which a filter joins a coordinate, and its number of pairs: the same on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.rulebook.contract import PAIR_COUNT


def joined_cells(coordinates: Any, size_out: int, kernel: int, stride: int, padding: int, dilation: int) -> Any:
    """(kernel, n) int64: the output coordinate that offset k joins to each input coordinate (n,) int64, or -1."""
    xp = array_module(coordinates)
    steps = coordinates[None, :] + padding - dilation * xp.arange(kernel)[:, None]
    inside = (steps % stride == 0) & (steps >= 0) & (steps // stride < size_out)
    return xp.where(inside, steps // stride, -1)


@PAIR_COUNT.implementation("cuda")
@PAIR_COUNT.implementation("cpu")
def _pair_count(coordinates, *axes):
    """The number of pairs of a filter whose outputs are all the cells that it joins to a site: for each site, the
    product over the axes of the number of offsets that join its coordinate to an output."""
    xp = array_module(coordinates)
    counts = xp.ones(len(coordinates), np.int64)
    for axis, (side, *sizes) in enumerate(zip(*axes, strict=True)):
        column = coordinates[:, 1 + axis]
        if side <= len(column):
            counts *= xp.asarray((joined_cells(np.arange(side), *sizes) >= 0).sum(axis=0))[column]
        else:  # a table of all coordinates would grow with the grid
            counts *= (joined_cells(column.astype(np.int64), *sizes) >= 0).sum(axis=0)
    return int(counts.sum())
