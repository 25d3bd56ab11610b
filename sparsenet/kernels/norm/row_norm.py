"""Layer norm: y = (x - mean) / sqrt(variance + eps) * weight + bias, over rows (N, C), with the mean and variance of
each row, or of each of the groups of neighbouring channels that a row is cut into.

    rows       | group 0 | group 1 | ... | group 0 | group 1 | ...      as rows (N groups, C / groups)
    a block    | 16 of them | 16 | ...                                   cut by size alone; one thread takes a block

Of 16 rows at a time come first the sums, 16 channels side by side, in float64; then, all 16 together, means and
deviations; then the results, while the rows are in the first cache.  So memory is read and written once, also in the
backward pass, which derives mean and variance again.  Distances, and their squares, are taken from a row's first
number, so that nothing cancels, whatever the mean.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.contracts import ROW_NORM_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import ROW_NORM_FORWARD as FORWARD
from sparsenet.kernels.cpu.lanes import doubles, fma, load, load_some, spread, store, store_some
from sparsenet.kernels.cpu.lanes_joined import totals_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.norm.loops import WIDTH, rows_of_block

_TOGETHER = 16  # rows


@FORWARD.implementation("cpu")
def _forward_cpu(features, weight, bias, groups, eps):
    """(N, C)"""
    rows, weight, bias = _grouped(features, groups), _grouped(weight, groups), _grouped(bias, groups)
    out = np.empty_like(rows)
    run_rows(lambda start, stop: _normalise(rows, weight, bias, eps, start, stop, out), len(rows),
             rows_of_block(rows.shape[1]))
    return out.reshape(features.shape)


@BACKWARD.implementation("cpu")
def _backward_cpu(features, gradient, weight, groups, eps):
    """((N, C), (2, C) float64): the gradient of features, then those of bias and weight: the sums over all rows of the
    gradient, and of the gradient times the normalised value."""
    rows, gradient, weight = (_grouped(array, groups) for array in (features, gradient, weight))
    step = rows_of_block(rows.shape[1])
    out, partial = np.empty_like(rows), np.zeros((-(-len(rows) // step), 2, *weight.shape))
    run_rows(lambda start, stop: _differentiate(rows, gradient, weight, eps, start, stop, out, partial[start // step]),
             len(rows), step)
    return out.reshape(features.shape), partial.sum(axis=0).reshape(2, -1)  # block after block


def _grouped(array: np.ndarray, groups: int) -> np.ndarray:
    return array.reshape(-1, array.shape[-1] // groups)


@numba.njit(inline="always")
def _measure(values, start, stop, eps, mean, inverse):
    """Of rows start to stop: the mean, and 1 / sqrt(variance + eps)."""
    width = values.shape[1]
    part = 1 / width
    for row in range(start, stop):
        shift, c = values[row, 0], 0
        total = squares = spread(0.0, WIDTH)
        while c + WIDTH <= width:
            distance = doubles(load(values, (row, c), WIDTH)) - np.float64(shift)
            total, squares = total + distance, fma(distance, distance, squares)
            c += WIDTH
        if c < width:
            distance = doubles(load_some(values, (row, c), width - c, shift, WIDTH)) - np.float64(shift)
            total, squares = total + distance, fma(distance, distance, squares)
        mean[row - start], inverse[row - start] = totals_of(total, squares)
    for i in range(stop - start):
        distance = mean[i] * part
        variance = max(inverse[i] * part - distance * distance, 0.0)
        mean[i] = values[start + i, 0] + distance
        inverse[i] = 1 / np.sqrt(variance + eps)


@compiled(error_model="numpy")
def _normalise(values, weight, bias, eps, start, stop, out):
    width, groups, nothing = values.shape[1], weight.shape[0], values.dtype.type(0)
    mean, inverse = np.empty(_TOGETHER), np.empty(_TOGETHER)
    group = start % groups
    for above in range(start, stop, _TOGETHER):
        below = min(above + _TOGETHER, stop)
        _measure(values, above, below, eps, mean, inverse)
        for row in range(above, below):
            centre, scale, c = values.dtype.type(mean[row - above]), values.dtype.type(inverse[row - above]), 0
            while c + WIDTH <= width:
                distance = load(values, (row, c), WIDTH) - centre
                store(out, (row, c), distance * scale * load(weight, (group, c), WIDTH) + load(bias, (group, c), WIDTH))
                c += WIDTH
            if c < width:
                distance = load_some(values, (row, c), width - c, nothing, WIDTH) - centre
                factor = load_some(weight, (group, c), width - c, nothing, WIDTH)
                constant = load_some(bias, (group, c), width - c, nothing, WIDTH)
                store_some(out, (row, c), width - c, distance * scale * factor + constant)
            group = group + 1 if group + 1 < groups else 0


@compiled(error_model="numpy")
def _differentiate(values, gradient, weight, eps, start, stop, out, sums):
    """With x' the normalised x and g' = g weight: out = (g' - mean of g' - x' mean of g' x') / sqrt(variance + eps)."""
    width, groups, kind, nothing = values.shape[1], weight.shape[0], values.dtype.type, values.dtype.type(0)
    mean, inverse, part = np.empty(_TOGETHER), np.empty(_TOGETHER), 1 / width
    group = start % groups
    for above in range(start, stop, _TOGETHER):
        below = min(above + _TOGETHER, stop)
        _measure(values, above, below, eps, mean, inverse)
        for row in range(above, below):
            centre, scale, c = mean[row - above], inverse[row - above], 0
            total = product = spread(0.0, WIDTH)
            while c + WIDTH <= width:
                slope = doubles(load(gradient, (row, c), WIDTH))
                normalised = slope * ((doubles(load(values, (row, c), WIDTH)) - centre) * scale)
                factor = doubles(load(weight, (group, c), WIDTH))
                total, product = fma(slope, factor, total), fma(normalised, factor, product)
                store(sums, (0, group, c), load(sums, (0, group, c), WIDTH) + slope)
                store(sums, (1, group, c), load(sums, (1, group, c), WIDTH) + normalised)
                c += WIDTH
            rest = width - c
            if rest > 0:
                slope = doubles(load_some(gradient, (row, c), rest, nothing, WIDTH))
                distance = doubles(load_some(values, (row, c), rest, nothing, WIDTH)) - centre
                normalised = slope * (distance * scale)
                factor = doubles(load_some(weight, (group, c), rest, nothing, WIDTH))
                total, product = fma(slope, factor, total), fma(normalised, factor, product)
                store_some(sums, (0, group, c), rest, load_some(sums, (0, group, c), rest, 0.0, WIDTH) + slope)
                store_some(sums, (1, group, c), rest, load_some(sums, (1, group, c), rest, 0.0, WIDTH) + normalised)
            shares, slopes = totals_of(total, product)
            share, steep = kind(shares * part * scale), kind(slopes * part * scale * scale)
            at, narrow = kind(centre), kind(scale)
            c = 0
            while c + WIDTH <= width:
                slope_here = load(gradient, (row, c), WIDTH) * load(weight, (group, c), WIDTH) * narrow
                store(out, (row, c), slope_here - share - (load(values, (row, c), WIDTH) - at) * steep)
                c += WIDTH
            if rest > 0:
                factor_here = load_some(weight, (group, c), rest, nothing, WIDTH)
                slope_here = load_some(gradient, (row, c), rest, nothing, WIDTH) * factor_here * narrow
                distance_here = load_some(values, (row, c), rest, nothing, WIDTH) - at
                store_some(out, (row, c), rest, slope_here - share - distance_here * steep)
            group = group + 1 if group + 1 < groups else 0
