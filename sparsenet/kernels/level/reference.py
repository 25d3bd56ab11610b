"""A level of a network apart from its convolutions, composed of the formulas of other families."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.activations.reference import leaky_relu_backward, leaky_relu_forward
from sparsenet.kernels.rows.reference import segment_sum
from sparsenet.kernels.table import formula_of


@formula_of("level_backgrounds")
def level_backgrounds(weights, biases, background, slopes, reversed, with_gradient):
    """For each level (C_out,) constant = background @ sum_k weights[k] + bias, and its leaky ReLU, the background of
    the next; if with_gradient, also that sum (C_in, C_out) and the transposed weights (K, C_out, C_in), the offsets in
    reverse order if `reversed`."""
    found = []
    for weight, bias, slope, backwards in zip(weights, biases, slopes, reversed, strict=True):
        total, constant = weight.sum(axis=0), np.zeros(weight.shape[2], weight.dtype)
        constant += 0 if background is None else background @ total
        constant += 0 if bias is None else bias
        turned = np.ascontiguousarray((weight[::-1] if backwards else weight).transpose(0, 2, 1))
        background = leaky_relu_forward(constant, slope, None)
        found.append((constant, background, *((total, turned) if with_gradient else (None, None))))
    return found


@formula_of("level_gradient")
def level_gradient(gradient, argmax, transposed_neighbours, activated, constant, output_background_gradient, slope,
                   total_weight):
    """Gradients of the convolution's output (N, C), of its constant (C,) and, given total_weight, of its input's
    background (C_in,).  After a pooling, `gradient` is that of the maxima less the level's background."""
    below = np.zeros_like(constant) if output_background_gradient is None else output_background_gradient
    if argmax is not None:
        n, k = np.nonzero(transposed_neighbours >= 0)
        m = transposed_neighbours[n, k]
        pooled, gradient = gradient, np.zeros_like(activated)
        np.add.at(gradient, n, np.where(argmax[m] == k[:, None], pooled[m], 0))
        below = below - segment_sum(gradient, None)[0]
    out = leaky_relu_backward(activated, gradient, slope, None, None)
    to_constant = leaky_relu_backward(constant, below, slope, None, None) + segment_sum(out, None)[0]
    return out, to_constant, None if total_weight is None else total_weight @ to_constant
