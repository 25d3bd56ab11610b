"""Rows on a GPU: segments by segment.cu; a row of each sample by CuPy's own kernels."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import ADD_SAMPLE_ROWS as ADD
from sparsenet.kernels.contracts import MULTIPLY_SAMPLE_ROWS as MULTIPLY
from sparsenet.kernels.contracts import SEGMENT_MAX, SEGMENT_SUM
from sparsenet.kernels.contracts import SUBTRACT_SAMPLE_ROWS as SUBTRACT
from sparsenet.kernels.cuda.source import MAX_BLOCKS, SCALARS, CudaKernel, CudaSource, scalars_of
from sparsenet.kernels.cuda.tickets import tickets

CUDA_CHUNK = 1024  # rows: a block's work; 1 M rows give a GPU a thousand blocks
_BLOCK = (32, 8)  # channels x groups of rows
SOURCE = CudaSource("rows/segment", variants=[{**scalars, "CHUNK": CUDA_CHUNK} for scalars in SCALARS.values()])


@SEGMENT_SUM.implementation("cuda")
def _segment_sum_cuda(values, splits):
    xp, (rows, segments, channels) = array_module(values), _sizes(values, splits)
    result = xp.empty((segments, channels), values.dtype)
    if result.size:
        slots, partial, arrived = _slots(rows, segments), None, None
        grid = _grid(slots, values)
        if slots > 1:
            partial, arrived = xp.empty((slots, channels), np.float64), tickets(xp, segments * grid[1])
        _kernel("segment_sum", values)(grid, _BLOCK, values, splits, rows, segments, channels, slots, partial, arrived,
                                       result)
    return result


@SEGMENT_MAX.implementation("cuda")
def _segment_max_cuda(values, splits):
    xp, sizes = array_module(values), _sizes(values, splits)
    slots = _slots(*sizes[:2])
    partial = xp.empty((slots, values.shape[1]), values.dtype)
    partial_rows = xp.empty(partial.shape, np.int64)
    result = xp.empty((len(splits) - 1, values.shape[1]), values.dtype)
    rows = xp.empty(result.shape, np.int64)
    if result.size:
        _kernel("segment_max_chunks", values)(_grid(slots, values), _BLOCK, values, splits, *sizes, slots, partial,
                                              partial_rows)
        _kernel("segment_max_join", values)(_grid(len(result), values), _BLOCK, partial, partial_rows, splits, *sizes,
                                            -np.inf, result, rows)
    return result, rows


def _kernel(name: str, values) -> CudaKernel:
    return SOURCE.kernel(name, **scalars_of(values), CHUNK=CUDA_CHUNK)


def _sizes(values, splits) -> tuple[int, int, int]:
    """Rows, segments, channels."""
    if splits is None:
        return len(values), 1, values.shape[1]
    return len(values), len(splits) - 1, values.shape[1]


def _slots(rows: int, segments: int) -> int:
    """Partial rows: enough for all chunks of all segments (see segment.cu)."""
    return rows // CUDA_CHUNK + segments


def _grid(blocks: int, values) -> tuple[int, int]:
    return min(blocks, MAX_BLOCKS), -(-values.shape[1] // _BLOCK[0])


@ADD.implementation("cuda")
def _add_cuda(values, rows, coordinates):
    return values + _spread(rows, coordinates)


@SUBTRACT.implementation("cuda")
def _subtract_cuda(values, rows, coordinates):
    return values - _spread(rows, coordinates)


@MULTIPLY.implementation("cuda")
def _multiply_cuda(values, rows, coordinates):
    return values * _spread(rows, coordinates)


def _spread(rows, coordinates):
    return rows if len(rows) == 1 else rows[coordinates[:, 0]]
