"""A level on a GPU, by level.cu: one launch for each of the two kernels."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import MAX_BLOCKS, SCALARS, CudaSource, scalars_of
from sparsenet.kernels.cuda.tickets import tickets
from sparsenet.kernels.level.contract import LEVEL_BACKGROUND as BACKGROUND
from sparsenet.kernels.level.contract import LEVEL_GRADIENT as GRADIENT

_BLOCK = _LANES, _GROUPS = 32, 8  # as in level.cu
_MIN_CHUNK, _MAX_CHUNKS = 64, 512  # rows of a block; chunks that the last block joins
SOURCE = CudaSource("level/level", variants=SCALARS.values())


@BACKGROUND.implementation("cuda")
def _background_cuda(weights, background, bias, slope, reversed, with_gradient):
    xp, dtype, (offsets, c_in, c_out) = array_module(weights), weights.dtype, weights.shape
    rows = xp.empty((2, c_out), dtype)
    constant, activated = rows[0], rows[1]
    total = xp.empty((c_in, c_out), dtype) if with_gradient else None
    transposed_weights = xp.empty((offsets, c_out, c_in), dtype) if with_gradient else None
    SOURCE.kernel("level_background", **scalars_of(weights))(
        min(-(-c_out // _GROUPS), MAX_BLOCKS), _BLOCK, background, weights, bias, slope, reversed, offsets, c_in,
        c_out, constant, activated, total, transposed_weights)
    return constant, activated, total, transposed_weights


@GRADIENT.implementation("cuda")
def _gradient_cuda(gradient, argmax, transposed_neighbours, activated, constant, output_background_gradient, slope,
                   total_weight):
    xp, dtype, (rows, channels) = array_module(gradient), gradient.dtype, activated.shape
    offsets = 0 if argmax is None else transposed_neighbours.shape[1]
    c_in = 0 if total_weight is None else len(total_weight)
    result = xp.empty((rows, channels), dtype)
    constant_gradient = (xp.empty(channels, dtype) if rows
                         else _constant_gradient_without_rows(xp, constant, output_background_gradient, slope))
    background_gradient = None if total_weight is None else xp.empty(c_in, dtype)
    if not rows:
        return result, constant_gradient, None if total_weight is None else total_weight @ constant_gradient
    chunk = max(_MIN_CHUNK, -(-rows // (_MAX_CHUNKS * _GROUPS)) * _GROUPS)
    chunks, slices = -(-rows // chunk), -(-channels // _LANES)
    partial = xp.empty((2 * chunks + 1, channels), np.float64)
    SOURCE.kernel("level_gradient", **scalars_of(gradient))(
        (chunks, slices), _BLOCK, gradient, argmax, transposed_neighbours, activated, constant,
        output_background_gradient, slope, total_weight, rows, offsets, channels, c_in, chunk, result, partial,
        tickets(xp, slices + 1), constant_gradient, background_gradient)
    return result, constant_gradient, background_gradient


def _constant_gradient_without_rows(xp, constant, background_gradient, slope):
    """(C,) gradient of the constant row if there are no rows."""
    if background_gradient is None:
        return xp.zeros_like(constant)
    return xp.where(constant > 0, background_gradient, background_gradient * slope)
