"""Layer norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, over rows (N, C), with the mean and variance of
each row, or of each of the groups of neighbouring channels that a row is cut into.

    a block    | 4 rows | 4 rows | ...        cut by size alone; one thread takes a block
    a tile       8 channels of 4 rows         the rest of rows, and of a group's channels, is filled up

Of 4 rows at a time come first the sums, in float64, then the means and deviations, then the results, while the rows
are in the first cache.  So memory is read and written once, also in the backward pass, which is given the moments.
Distances, and their squares, are taken from the first number of a row's group, so that nothing cancels, whatever the
mean.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.cpu.lanes import doubles, fma, load, load_some, maximum, root, rounded, spread, store, store_some
from sparsenet.kernels.cpu.lanes_of_rows import (
    along_rows,
    in_each_row,
    lane_of,
    row_of,
    stacked,
    sum_of_rows,
    totals_of_rows,
)
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.norm.contract import ROW_NORM_BACKWARD as BACKWARD
from sparsenet.kernels.norm.contract import ROW_NORM_FORWARD as FORWARD
from sparsenet.kernels.norm.loops import rows_of_block

_ROWS, _WIDTH = 4, 8  # of a tile
_NUMBERS = _ROWS * _WIDTH


@FORWARD.implementation("cpu")
def _forward_cpu(features, weight, bias, groups, eps, with_moments):
    """(N, C); and (2, groups, N) float64, the mean and 1 / sqrt(variance + eps) of each group, or None."""
    rows, out = len(features), np.empty_like(features)
    moments = np.empty((2, groups, rows if with_moments else 0))
    run_rows(lambda start, stop: _normalise(features, weight, bias, eps, start, stop, moments, out), rows,
             rows_of_block(features.shape[1]))
    return out, moments if with_moments else None


@BACKWARD.implementation("cpu")
def _backward_cpu(features, gradient, moments, weight):
    """((N, C), (2, C) float64): the gradient of features, then those of bias and weight: the sums over all rows of the
    gradient, and of the gradient times the normalised value."""
    (rows, channels), out = features.shape, np.empty_like(features)
    step = rows_of_block(channels)
    partial = np.zeros((-(-rows // step), 2, channels))
    run_rows(lambda start, stop: _differentiate(features, gradient, moments, weight, start, stop, out,
                                                partial[start // step]), rows, step)
    return out, partial.sum(axis=0)  # block after block


@compiled(error_model="numpy")
def _normalise(values, weight, bias, eps, start, stop, moments, out):
    border = _border(start, stop, values.shape[1] // moments.shape[1])
    _normalise_rows(values, weight, bias, eps, (start, border, True), moments, out)
    _normalise_rows(values, weight, bias, eps, (border, stop, False), moments, out)


@numba.njit(inline="always")
def _normalise_rows(values, weight, bias, eps, part, moments, out):
    """part : first row, last row + 1, whether all tiles are full"""
    (start, stop, full), groups, nothing = part, moments.shape[1], values.dtype.type(0)
    width = values.shape[1] // groups
    share = 1 / width
    for row in range(start, stop, _ROWS):
        rows = _ROWS if full else stop - row
        for group in range(groups):
            first, last = group * width, group * width + width
            shift = _numbers(values, row, rows, first)
            away, total, squares = along_rows(doubles(shift), _WIDTH), spread(0.0, _NUMBERS), spread(0.0, _NUMBERS)
            for c in range(first, last, _WIDTH):
                distance = doubles(_load_tile(values, row, c, rows, _WIDTH if full else last - c, shift)) - away
                total, squares = total + distance, fma(distance, distance, squares)
            offset = totals_of_rows(total, _ROWS) * share
            variance = totals_of_rows(squares, _ROWS) * share - offset * offset
            mean, inverse = doubles(shift) + offset, 1.0 / root(maximum(0.0, variance) + eps)
            if moments.shape[2] > 0:
                store_some(moments, (0, group, row), rows, mean)
                store_some(moments, (1, group, row), rows, inverse)
            centre, scale = along_rows(rounded(mean, values), _WIDTH), along_rows(rounded(inverse, values), _WIDTH)
            for c in range(first, last, _WIDTH):
                count = _WIDTH if full else last - c
                factor = in_each_row(load_some(weight, c, count, nothing, _WIDTH), _ROWS)
                constant = in_each_row(load_some(bias, c, count, nothing, _WIDTH), _ROWS)
                here = _load_tile(values, row, c, rows, count, shift) - centre
                _store_tile(out, row, c, rows, count, here * scale * factor + constant)


@compiled(error_model="numpy")
def _differentiate(values, gradient, moments, weight, start, stop, out, sums):
    border = _border(start, stop, values.shape[1] // moments.shape[1])
    _differentiate_rows(values, gradient, moments, weight, (start, border, True), out, sums)
    _differentiate_rows(values, gradient, moments, weight, (border, stop, False), out, sums)


@numba.njit(inline="always")
def _differentiate_rows(values, gradient, moments, weight, part, out, sums):
    """With x' the normalised x and g' = g weight: out = (g' - mean of g' - x' mean of g' x') / sqrt(variance + eps).

    part : first row, last row + 1, whether all tiles are full
    """
    (start, stop, full), groups, nothing = part, moments.shape[1], values.dtype.type(0)
    width = values.shape[1] // groups
    share, nowhere = 1 / width, spread(nothing, _ROWS)
    for row in range(start, stop, _ROWS):
        rows = _ROWS if full else stop - row
        for group in range(groups):
            first, last = group * width, group * width + width
            mean = load_some(moments, (0, group, row), rows, 0.0, _ROWS)
            inverse = load_some(moments, (1, group, row), rows, 0.0, _ROWS)
            centre, scale = along_rows(mean, _WIDTH), along_rows(inverse, _WIDTH)
            total, product = spread(0.0, _NUMBERS), spread(0.0, _NUMBERS)
            for c in range(first, last, _WIDTH):
                count = _WIDTH if full else last - c
                slope = doubles(_load_tile(gradient, row, c, rows, count, nowhere))
                distance = doubles(_load_tile(values, row, c, rows, count, nowhere)) - centre
                normalised = slope * (distance * scale)
                factor = in_each_row(doubles(load_some(weight, c, count, nothing, _WIDTH)), _ROWS)
                total, product = fma(slope, factor, total), fma(normalised, factor, product)
                _add(sums, (0, c), count, sum_of_rows(slope, _ROWS))
                _add(sums, (1, c), count, sum_of_rows(normalised, _ROWS))
            flat = totals_of_rows(total, _ROWS) * share * inverse
            steep = totals_of_rows(product, _ROWS) * share * inverse * inverse
            constant, tilt = along_rows(rounded(flat, values), _WIDTH), along_rows(rounded(steep, values), _WIDTH)
            at, narrow = rounded(centre, values), rounded(scale, values)
            for c in range(first, last, _WIDTH):
                count = _WIDTH if full else last - c
                factor = in_each_row(load_some(weight, c, count, nothing, _WIDTH), _ROWS)
                slope_here = _load_tile(gradient, row, c, rows, count, nowhere) * factor * narrow
                distance_here = _load_tile(values, row, c, rows, count, nowhere) - at
                _store_tile(out, row, c, rows, count, slope_here - constant - distance_here * tilt)


@numba.njit(inline="always")
def _border(start, stop, width):
    """The first row that is not in a full tile."""
    return stop - (stop - start) % _ROWS if width % _WIDTH == 0 else start


@numba.njit(inline="always")
def _numbers(values, row, rows, c):
    """(4,): values[row : row + 4, c], and 0 for rows from row + rows on"""
    nothing = values.dtype.type(0)
    return stacked(stacked(load_some(values, (row, c), rows, nothing, 1),
                           load_some(values, (row + 1, c), rows - 1, nothing, 1)),
                   stacked(load_some(values, (row + 2, c), rows - 2, nothing, 1),
                           load_some(values, (row + 3, c), rows - 3, nothing, 1)))


@numba.njit(inline="always")
def _load_tile(values, row, c, rows, count, rest):
    """values[row : row + 4, c : c + 8]; `rest` (4,) in channels from c + count on, and in rows from row + rows on."""
    if rows >= _ROWS and count >= _WIDTH:
        return stacked(stacked(load(values, (row, c), _WIDTH), load(values, (row + 1, c), _WIDTH)),
                       stacked(load(values, (row + 2, c), _WIDTH), load(values, (row + 3, c), _WIDTH)))
    return stacked(
        stacked(load_some(values, (row, c), count, lane_of(rest, 0), _WIDTH),
                load_some(values, (row + 1, c), count if rows > 1 else 0, lane_of(rest, 1), _WIDTH)),
        stacked(load_some(values, (row + 2, c), count if rows > 2 else 0, lane_of(rest, 2), _WIDTH),
                load_some(values, (row + 3, c), count if rows > 3 else 0, lane_of(rest, 3), _WIDTH)))


@numba.njit(inline="always")
def _store_tile(out, row, c, rows, count, tile):
    """The channels of `out` from c to c + count, at most 8, in at most 4 rows from row to row + rows."""
    if rows >= _ROWS and count >= _WIDTH:
        store(out, (row, c), row_of(tile, 0, _ROWS))
        store(out, (row + 1, c), row_of(tile, 1, _ROWS))
        store(out, (row + 2, c), row_of(tile, 2, _ROWS))
        store(out, (row + 3, c), row_of(tile, 3, _ROWS))
    else:
        store_some(out, (row, c), count, row_of(tile, 0, _ROWS))
        store_some(out, (row + 1, c), count if rows > 1 else 0, row_of(tile, 1, _ROWS))
        store_some(out, (row + 2, c), count if rows > 2 else 0, row_of(tile, 2, _ROWS))
        store_some(out, (row + 3, c), count if rows > 3 else 0, row_of(tile, 3, _ROWS))


@numba.njit(inline="always")
def _add(sums, index, count, lanes):
    store_some(sums, index, count, load_some(sums, index, count, 0.0, _WIDTH) + lanes)
