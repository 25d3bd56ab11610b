"""A level of a network (convolution, leaky ReLU, and max-pooling if it follows) apart from its convolutions.

    level_backgrounds  of several levels in a row: the background, one row, through each convolution and leaky ReLU; and
                       the sums and transposes of the weights that the backward pass will read
    level_gradient     from the gradient of the level's output to the gradients of the convolution's output, of its
                       constant row and of its input's background

On a GPU, where `ops.level` uses them, each is one launch.  Here they are composed of the kernels of the single
operations.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.level.contract import LEVEL_BACKGROUNDS as BACKGROUNDS
from sparsenet.kernels.level.contract import LEVEL_GRADIENT as GRADIENT
from sparsenet.kernels.table import launch


@BACKGROUNDS.implementation("cpu")
def _backgrounds_cpu(weights, biases, background, slopes, reversed, with_gradient):
    """For each level (C_out,) constant row: background @ total weight + bias, without those that are None; (C_out,) its
    leaky ReLU, the background of the next level; if with_gradient, (C_in, C_out) total weight, the sum over the
    offsets, and (K, C_out, C_in) transposed weights, with their offsets reversed if `reversed`; else None twice."""
    found = []
    for level in zip(weights, biases, slopes, reversed, strict=True):
        found.append(_background_of(background, *level, with_gradient))
        background = found[-1][1]
    return found


def _background_of(background, weights, bias, slope, reversed, with_gradient):
    total = weights.sum(axis=0)
    constant = np.zeros(weights.shape[2], weights.dtype) if bias is None else bias.copy()
    if background is not None:
        constant += background @ total
    activated = launch("leaky_relu_forward", constant[None], slope)[0]
    if not with_gradient:
        return constant, activated, None, None
    transposed = (weights[::-1] if reversed else weights).transpose(0, 2, 1)
    return constant, activated, total, np.ascontiguousarray(transposed)


@GRADIENT.implementation("cpu")
def _gradient_cpu(gradient, argmax, transposed_neighbours, activated, constant, output_background_gradient, slope,
                  total_weight):
    """(N, C) gradient of the convolution's output, (C,) of its constant row, and (C_in,) of its input's background,
    None without total_weight.

    gradient : of the level's output; after a pooling (argmax and transposed_neighbours given), that of the values
        relative to the background
    activated : output of the leaky ReLU;  constant : from level_backgrounds
    output_background_gradient : of the background of the level's output
    """
    arriving = gradient
    own = np.zeros_like(constant) if output_background_gradient is None else output_background_gradient.copy()
    if argmax is not None:
        arriving = _collected(gradient, argmax, transposed_neighbours)
        own -= launch("segment_sum", arriving)[0]
    result = launch("leaky_relu_backward", activated, np.ascontiguousarray(arriving), slope)
    own = launch("leaky_relu_backward", constant[None], own[None], slope)[0]
    own += launch("segment_sum", result)[0]
    return result, own, None if total_weight is None else total_weight @ own


def _collected(gradient, argmax, transposed_neighbours):
    """(N, C): for each input, the sum over the windows that chose it."""
    result = np.zeros((len(transposed_neighbours), gradient.shape[1]), gradient.dtype)
    for k in range(transposed_neighbours.shape[1] - 1, -1, -1):  # windows in ascending order of rows
        inputs = np.flatnonzero(transposed_neighbours[:, k] >= 0)
        windows = transposed_neighbours[inputs, k]
        result[inputs] += np.where(argmax[windows] == k, gradient[windows], 0)
    return result
