"""Launches of kernels that sum runs of rows, by segment_sums.cuh."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import MAX_BLOCKS, CudaKernel
from sparsenet.kernels.cuda.tickets import tickets

CHUNK = 1024  # rows: a block's work; 1 M rows give a GPU a thousand blocks
BLOCK = (32, 8)  # channels x groups of rows


def slots_of(rows: int, segments: int) -> int:
    """Partial rows: enough for all chunks of all segments (see segments.cuh)."""
    return rows // CHUNK + segments


def grid_of(blocks: int, values: Any) -> tuple[int, int]:
    return min(blocks, MAX_BLOCKS), -(-values.shape[1] // BLOCK[0])


def sum_segments(kernel: CudaKernel, values: Any, splits: Any | None, out: Any, *others: Any) -> None:
    """Launch a kernel whose parameters are those of `segment_sum` (segment.cu), with `others` before `out`.

    out : (S, C)
    """
    if not out.size:
        return
    xp, rows, (segments, channels) = array_module(values), len(values), out.shape
    slots, partial, arrived = slots_of(rows, segments), None, None
    grid = grid_of(slots, values)
    if slots > 1:
        partial, arrived = xp.empty((slots, channels), np.float64), tickets(xp, segments * grid[1])
    kernel(grid, BLOCK, values, splits, rows, segments, channels, slots, partial, arrived, *others, out)
