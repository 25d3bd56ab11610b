"""What a level of a network (convolution, leaky ReLU, and max-pooling where it follows) does beside its convolutions.

    level_background   the background's way through the convolution and the leaky ReLU, one row, and what of the
                       weights the backward pass will read
    level_gradient     from the gradient of the level's output to that of what the convolution gave, of its constant
                       row and of the background that it read

Each is one launch on a GPU, where `ops.level` uses them.  On a CPU they are put together from the kernels of the single
operations, which cost nothing to call there: it is what they are compared with.
"""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import LEVEL_BACKGROUND as BACKGROUND
from sparsenet.kernels.contracts import LEVEL_GRADIENT as GRADIENT
from sparsenet.kernels.cuda.source import MOST_BLOCKS, SCALARS, CudaSource, scalars_of
from sparsenet.kernels.cuda.tickets import tickets
from sparsenet.kernels.table import launch

_BLOCK = _LANES, _GROUPS = 32, 8  # as in level.cu
_CHUNK, _CHUNKS = 64, 512  # least rows of a block; most chunks that the last block joins

SOURCE = CudaSource("level/level")
VARIANTS = [(name, scalars) for name in ("level_background", "level_gradient") for scalars in SCALARS.values()]


@BACKGROUND.implementation("reference")
@BACKGROUND.implementation("cpu")
def _background_cpu(weights, background, bias, slope, reversed, with_gradient):
    """(C_out,) constant row: background @ total weight + bias, zeros where neither is given; (C_out,) what leaky ReLU
    makes of it; with_gradient: (C_in, C_out) total weight, the sum over the offsets, and (K, C_out, C_in) the weights
    turned, their offsets reversed if asked for; else None twice."""
    total = weights.sum(axis=0)
    constant = np.zeros(weights.shape[2], weights.dtype) if bias is None else bias.copy()
    if background is not None:
        constant += background @ total
    activated = launch("leaky_relu_forward", constant[None], slope)[0]
    if not with_gradient:
        return constant, activated, None, None
    turned = (weights[::-1] if reversed else weights).transpose(0, 2, 1)
    return constant, activated, total, np.ascontiguousarray(turned)


@BACKGROUND.implementation("cuda")
def _background_cuda(weights, background, bias, slope, reversed, with_gradient):
    xp, dtype, (offsets, c_in, c_out) = array_module(weights), weights.dtype, weights.shape
    rows = xp.empty((2, c_out), dtype)
    constant, activated = rows[0], rows[1]
    total = xp.empty((c_in, c_out), dtype) if with_gradient else None
    turned = xp.empty((offsets, c_out, c_in), dtype) if with_gradient else None
    SOURCE.kernel("level_background", **scalars_of(weights))(
        min(-(-c_out // _GROUPS), MOST_BLOCKS), _BLOCK, background, weights, bias, slope, reversed, offsets, c_in,
        c_out, constant, activated, total, turned)
    return constant, activated, total, turned


@GRADIENT.implementation("reference")
@GRADIENT.implementation("cpu")
def _gradient_cpu(gradient, argmax, transposed_neighbours, activated, constant, ground, slope, total_weight):
    """(N, C) gradient of what the convolution gave, (C,) that of its constant row, and (C_in,) that of the background
    that it read, None without total_weight.

    gradient : of the level's output; behind a pooling (argmax and transposed_neighbours given) of values relative to
        the background, else as they are
    activated : what leaky ReLU gave;  constant : of level_background;  ground : gradient of the level's background
    """
    arriving = gradient
    own = np.zeros_like(constant) if ground is None else ground.copy()
    if argmax is not None:
        arriving = _collected(gradient, argmax, transposed_neighbours)
        own -= launch("segment_sum", arriving)[0]
    result = launch("leaky_relu_backward", activated, np.ascontiguousarray(arriving), slope)
    own = launch("leaky_relu_backward", constant[None], own[None], slope)[0]
    own += launch("segment_sum", result)[0]
    return result, own, None if total_weight is None else total_weight @ own


def _collected(gradient, argmax, transposed_neighbours):
    """(N, C): each input's sum over the windows that chose it."""
    result = np.zeros((len(transposed_neighbours), gradient.shape[1]), gradient.dtype)
    for k in range(transposed_neighbours.shape[1] - 1, -1, -1):  # upwards in the rows of the windows
        inputs = np.flatnonzero(transposed_neighbours[:, k] >= 0)
        windows = transposed_neighbours[inputs, k]
        result[inputs] += np.where(argmax[windows] == k, gradient[windows], 0)
    return result


@GRADIENT.implementation("cuda")
def _gradient_cuda(gradient, argmax, transposed_neighbours, activated, constant, ground, slope, total_weight):
    xp, dtype, (rows, channels) = array_module(gradient), gradient.dtype, activated.shape
    offsets = 0 if argmax is None else transposed_neighbours.shape[1]
    c_in = 0 if total_weight is None else len(total_weight)
    result = xp.empty((rows, channels), dtype)
    constant_gradient = xp.empty(channels, dtype) if rows else _of_no_rows(xp, constant, ground, slope)
    background_gradient = None if total_weight is None else xp.empty(c_in, dtype)
    if not rows:
        return result, constant_gradient, None if total_weight is None else total_weight @ constant_gradient
    chunk = max(_CHUNK, -(-rows // (_CHUNKS * _GROUPS)) * _GROUPS)
    chunks, slices = -(-rows // chunk), -(-channels // _LANES)
    partial = xp.empty((2 * chunks + 1, channels), np.float64)
    SOURCE.kernel("level_gradient", **scalars_of(gradient))(
        (chunks, slices), _BLOCK, gradient, argmax, transposed_neighbours, activated, constant, ground, slope,
        total_weight, rows, offsets, channels, c_in, chunk, result, partial, tickets(xp, slices + 1), constant_gradient,
        background_gradient)
    return result, constant_gradient, background_gradient


def _of_no_rows(xp, constant, ground, slope):
    """(C,) gradient of the constant row where there are no rows."""
    return xp.zeros_like(constant) if ground is None else xp.where(constant > 0, ground, ground * slope)
