"""Levels on a GPU, by level.cu: one launch for each of the two kernels; backgrounds of up to eight levels in one."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import MAX_BLOCKS, SCALARS, CudaSource, scalars_of
from sparsenet.kernels.cuda.tickets import tickets
from sparsenet.kernels.level.contract import LEVEL_BACKGROUNDS as BACKGROUNDS
from sparsenet.kernels.level.contract import LEVEL_GRADIENT as GRADIENT

_BLOCK = _LANES, _GROUPS = 32, 8  # as in level.cu
_COLUMNS, _LEVELS = 16, 8  # of level_backgrounds: columns that a block takes at a time, levels of a launch
_MIN_CHUNK, _MAX_CHUNKS = 64, 512  # rows of a block; chunks that the last block joins
SOURCE = CudaSource("level/level", variants=SCALARS.values())


@BACKGROUNDS.implementation("cuda")
def _backgrounds_cuda(weights, biases, background, slopes, reversed, with_gradient):
    levels, found = list(zip(weights, biases, slopes, reversed, strict=True)), []
    for first in range(0, len(levels), _LEVELS):
        found += _backgrounds_at_once(levels[first:first + _LEVELS], background, with_gradient)
        background = found[-1][1]
    return found


def _backgrounds_at_once(levels: list[tuple], background: Any | None, with_gradient: bool) -> list[tuple]:
    """levels : of weights, bias, slope, reversed"""
    xp, dtype, found, slots = array_module(levels[0][0]), levels[0][0].dtype, [], []
    for weights, bias, slope, reversed in levels:
        offsets, c_in, c_out = weights.shape
        constant, activated = xp.empty((2, c_out), dtype)
        total = xp.empty((c_in, c_out), dtype)
        transposed = xp.empty((offsets, c_out, c_in), dtype) if with_gradient else None
        found.append((constant, activated, total if with_gradient else None, transposed))
        slots += [weights, bias, transposed, total, constant, activated, slope, reversed, offsets, c_out]
    slots += [*[None] * 6, 0.0, False, 0, 0] * (_LEVELS - len(levels))
    widest = max(weights.shape[2] for weights, *_ in levels)
    SOURCE.kernel("level_backgrounds", **scalars_of(levels[0][0]))(
        (min(max(1, -(-widest // _COLUMNS)), MAX_BLOCKS), len(levels)), (_LANES, _COLUMNS), background,
        levels[0][0].shape[1], tickets(xp, 1), *slots)
    return found


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
