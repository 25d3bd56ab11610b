"""Rows on a GPU: segments by segment.cu, rows on unions by unions.cu; a row of each sample by CuPy's own kernels."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import (
    ADD_ROWS,
    CONCATENATE_ROWS,
    MULTIPLY_ROWS,
    SEGMENT_MAX,
    SEGMENT_SUM,
    SPLIT_ROWS,
    SUBTRACT_ROWS,
)
from sparsenet.kernels.contracts import ADD_SAMPLE_ROWS as ADD
from sparsenet.kernels.contracts import MULTIPLY_SAMPLE_ROWS as MULTIPLY
from sparsenet.kernels.contracts import SUBTRACT_SAMPLE_ROWS as SUBTRACT
from sparsenet.kernels.cuda.source import (
    MAX_BLOCKS,
    SCALARS,
    THREADS,
    CudaKernel,
    CudaSource,
    blocks_for,
    scalars_of,
)
from sparsenet.kernels.cuda.tickets import tickets

CUDA_CHUNK = 1024  # rows: a block's work; 1 M rows give a GPU a thousand blocks
_BLOCK = (32, 8)  # channels x groups of rows
_MAX_LANES = 32  # channels that a row of threads of unions.cu takes at a time
UNIONS = CudaSource("rows/unions", variants=SCALARS.values())
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


@CONCATENATE_ROWS.implementation("cuda")
def _concatenate_cuda(x, y, x_rows, y_rows, x_background, y_background, coordinates):
    sides = *_side(x, x_rows, x_background), x.shape[1], *_side(y, y_rows, y_background), y.shape[1]
    return _on_union("concatenate_rows", x.shape[1] + y.shape[1], sides, x if x_rows is None else y, coordinates)


def _elementwise_cuda(operation):
    def run(x, y, x_rows, y_rows, x_background, y_background, coordinates):
        sides = *_side(x, x_rows, x_background), *_side(y, y_rows, y_background), x.shape[1], operation
        return _on_union("combine_rows", x.shape[1], sides, x if x_rows is None else y, coordinates)

    return run


for _number, _declared in enumerate((ADD_ROWS, SUBTRACT_ROWS, MULTIPLY_ROWS)):  # as they stand in unions.cu
    _declared.implementation("cuda")(_elementwise_cuda(_number))


@SPLIT_ROWS.implementation("cuda")
def _split_cuda(values, x_rows, y_rows, channels):
    xp, (sites, width) = array_module(values), values.shape
    counts = [0 if rows is None else rows.size for rows in (x_rows, y_rows)]
    x, y = (xp.empty((sites if rows is None else rows.size, size), values.dtype)
            for rows, size in ((x_rows, channels), (y_rows, width - channels)))
    sides = x_rows, counts[0], channels, y_rows, counts[1], width - channels
    UNIONS.kernel("split_rows", **scalars_of(values))(*_shape(sites, width), values, *sides, sites, x, y)
    return x, y


def _side(values, rows, background):
    """The arguments that describe a side."""
    several = background is not None and len(background) > 1
    return values, rows, 0 if rows is None else rows.size, None if rows is None else background, several


def _on_union(kernel, width, sides, whole, coordinates):
    """whole : a side that has all sites, if there are no coordinates"""
    count = len(whole) if coordinates is None else len(coordinates)
    out = array_module(whole).empty((count, width), whole.dtype)
    UNIONS.kernel(kernel, **scalars_of(whole))(*_shape(count, width), *sides, coordinates,
                                               0 if coordinates is None else coordinates.shape[1], count, out)
    return out


def _shape(rows, channels):
    """The grid and the block for rows of so many channels."""
    lanes = min(_MAX_LANES, 1 << max(channels - 1, 0).bit_length())
    return blocks_for(rows, THREADS // lanes) if channels else 0, (lanes, THREADS // lanes)


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
