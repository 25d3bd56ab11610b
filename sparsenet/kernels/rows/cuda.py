"""Rows on a GPU: segments by segment.cu, rows on unions by unions.cu; a row of each sample by CuPy's own kernels."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.segment_sums import BLOCK, CHUNK, grid_of, slots_of, sum_segments
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaKernel, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.rows.contract import (
    ADD_ROWS,
    CONCATENATE_ROWS,
    MULTIPLY_ROWS,
    SEGMENT_MAX,
    SEGMENT_SUM,
    SPLIT_ROWS,
    SUBTRACT_ROWS,
)
from sparsenet.kernels.rows.contract import ADD_SAMPLE_ROWS as ADD
from sparsenet.kernels.rows.contract import MULTIPLY_SAMPLE_ROWS as MULTIPLY
from sparsenet.kernels.rows.contract import SUBTRACT_SAMPLE_ROWS as SUBTRACT

_MAX_LANES = 32  # channels that a row of threads of unions.cu takes at a time
UNIONS = CudaSource("rows/unions", variants=SCALARS.values())
SOURCE = CudaSource("rows/segment", variants=[{**scalars, "CHUNK": CHUNK} for scalars in SCALARS.values()])


@SEGMENT_SUM.implementation("cuda")
def _segment_sum_cuda(values, splits):
    segments = 1 if splits is None else len(splits) - 1
    result = array_module(values).empty((segments, values.shape[1]), values.dtype)
    sum_segments(_kernel("segment_sum", values), values, splits, result)
    return result


@SEGMENT_MAX.implementation("cuda")
def _segment_max_cuda(values, splits):
    xp, rows, segments, channels = array_module(values), len(values), len(splits) - 1, values.shape[1]
    slots = slots_of(rows, segments)
    partial = xp.empty((slots, channels), values.dtype)
    partial_rows = xp.empty(partial.shape, np.int64)
    result = xp.empty((segments, channels), values.dtype)
    result_rows = xp.empty(result.shape, np.int64)
    if result.size:
        _kernel("segment_max_chunks", values)(grid_of(slots, values), BLOCK, values, splits, rows, segments, channels,
                                              slots, partial, partial_rows)
        _kernel("segment_max_join", values)(grid_of(segments, values), BLOCK, partial, partial_rows, splits, rows,
                                            segments, channels, -np.inf, result, result_rows)
    return result, result_rows


def _kernel(name: str, values) -> CudaKernel:
    return SOURCE.kernel(name, **scalars_of(values), CHUNK=CHUNK)


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
