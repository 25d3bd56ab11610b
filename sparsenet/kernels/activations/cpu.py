"""Leaky ReLU: y = x where x > 0, slope * x elsewhere; element by element, limited by memory."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.activations import exponentials, prelu, softmax  # noqa: F401  (register their kernels)
from sparsenet.kernels.activations.contract import LEAKY_RELU_BACKWARD as BACKWARD
from sparsenet.kernels.activations.contract import LEAKY_RELU_FORWARD as FORWARD
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows

_BLOCK = 1 << 17  # elements: some 20 us, of which two are spent on handing a block to a thread


@FORWARD.implementation("cpu")
def _forward_cpu(x, slope, background):
    """(N, C); with a background of any shape (G, D), both."""
    out = np.empty(x.shape, x.dtype)
    source, target, factor = x.reshape(-1), out.reshape(-1), x.dtype.type(slope)
    run_rows(lambda start, stop: _forward(source[start:stop], factor, target[start:stop]), x.size, _BLOCK)
    return out if background is None else (out, _forward_cpu(background, slope, None))


@BACKWARD.implementation("cpu")
def _backward_cpu(reference, gradient, slope, background, background_gradient):
    """(N, C): the gradient, times slope where reference (the input, or the output if slope >= 0) is not positive;
    with a background and its gradient, (N, C) and (G, D)."""
    out = np.empty(gradient.shape, gradient.dtype)
    sign, source, target = reference.reshape(-1), gradient.reshape(-1), out.reshape(-1)
    factor = gradient.dtype.type(slope)
    run_rows(lambda start, stop: _backward(sign[start:stop], source[start:stop], factor, target[start:stop]),
             gradient.size, _BLOCK)
    return out if background is None else (out, _backward_cpu(background, background_gradient, slope, None, None))


@compiled
def _forward(x, slope, out):
    for i in range(x.size):
        value = x[i]
        out[i] = value if value > 0 else value * slope


@compiled
def _backward(reference, gradient, slope, out):
    for i in range(gradient.size):
        value = gradient[i]
        out[i] = value if reference[i] > 0 else value * slope
