"""Grouped convolution: convolutions of the groups, side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.kernels.convolution.reference import (
    convolution_forward,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from sparsenet.kernels.table import formula_of


@formula_of("grouped_convolution_forward", "grouped_convolution_forward_by_row", reads=("pairs",))
def grouped_convolution_forward(features, weights, rulebook, constant, groups):
    """Each group of output channels from its own input channels."""
    parts = [convolution_forward(x, w, rulebook, None, None) for x, w in in_groups(groups, features, weights)]
    return np.concatenate(parts, axis=1) + (0 if constant is None else constant)


@formula_of("grouped_convolution_input_gradient", reads=("pairs",))
def grouped_convolution_input_gradient(gradient, weights, rulebook, groups):
    """The gradient of each group's input channels."""
    return np.concatenate([convolution_input_gradient(g, w, rulebook, None)
                           for g, w in in_groups(groups, gradient, weights)], axis=1)


@formula_of("grouped_convolution_weight_gradient", reads=("pairs",))
def grouped_convolution_weight_gradient(features, gradient, rulebook, groups):
    """(K, C_in / groups, C_out)"""
    return np.concatenate([convolution_weight_gradient(x, g, rulebook, None, None)
                           for x, g in in_groups(groups, features, gradient)], axis=2)


def in_groups(groups: int, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The arrays with their last axes cut into groups, group by group."""
    return zip(*(np.split(array, groups, axis=-1) for array in arrays), strict=True)
