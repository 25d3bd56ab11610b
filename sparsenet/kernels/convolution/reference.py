"""Convolution: sums over the pairs (n, m) of each offset k of a rulebook."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sparsenet.kernels.activations.reference import leaky_relu_forward
from sparsenet.kernels.table import formula_of


def by_offset(rulebook) -> Iterable[np.ndarray]:
    """For each offset k the rows n of the inputs and m of the outputs that it joins, none of them twice."""
    return np.split(rulebook.pairs.T, rulebook.pair_splits[1:-1], axis=1)


@formula_of("convolution_forward", "convolution_forward_by_row", reads=("pairs",))
def convolution_forward(features, weights, rulebook, constant, slope):
    """out[m] = constant + sum over (n, m) of each k of features[n] @ weights[k], through a leaky ReLU."""
    out = np.zeros((rulebook.shape[1], weights.shape[2]), features.dtype)
    for k, (n, m) in enumerate(by_offset(rulebook)):
        out[m] += features[n] @ weights[k]
    out = out if constant is None else out + constant
    return out if slope is None else leaky_relu_forward(out, slope, None)


@formula_of("convolution_input_gradient", reads=("pairs",))
def convolution_input_gradient(gradient, weights, rulebook, turned):
    """out[n] = sum over (n, m) of each k of gradient[m] @ weights[k]^T."""
    out = np.zeros((rulebook.shape[0], weights.shape[1]), gradient.dtype)
    for k, (n, m) in enumerate(by_offset(rulebook)):
        out[n] += gradient[m] @ weights[k].T
    return out


@formula_of("convolution_weight_gradient", reads=("pairs",))
def convolution_weight_gradient(features, gradient, rulebook, background, constant_gradient):
    """out[k] = background^T constant_gradient + sum over (n, m) of k of features[n]^T @ gradient[m]."""
    out = np.zeros((rulebook.shape[2], features.shape[1], gradient.shape[1]), features.dtype)
    for k, (n, m) in enumerate(by_offset(rulebook)):
        out[k] = features[n].T @ gradient[m]
    return out if background is None else out + np.outer(background, constant_gradient)
