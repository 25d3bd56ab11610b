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

from sparsenet.kernels.contracts import LEVEL_BACKGROUND as BACKGROUND
from sparsenet.kernels.contracts import LEVEL_GRADIENT as GRADIENT
from sparsenet.kernels.table import launch


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
