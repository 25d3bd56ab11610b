"""Grouped convolution on a CPU: narrow groups by narrow.py, others by slices.py."""

from __future__ import annotations

from sparsenet.kernels.grouped import narrow, slices
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_FORWARD as FORWARD
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_FORWARD_BY_ROW as FORWARD_BY_ROW
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_INPUT_GRADIENT as INPUT_GRADIENT
from sparsenet.kernels.grouped.contract import GROUPED_CONVOLUTION_WEIGHT_GRADIENT as WEIGHT_GRADIENT
from sparsenet.kernels.grouped.slices import NARROW, is_narrow

_NARROW_GRADIENT = 16  # in place of NARROW: the loops of both gradients take longer than forward's

@FORWARD.implementation("cpu")
def _forward(features, weights, rulebook, constant, groups):
    """(M, C_out)"""
    if is_narrow(features.shape[1], weights.shape[2], groups):
        return narrow.forward(features, weights, rulebook.neighbours, constant, groups)
    return slices.forward("convolution_forward", features, weights, rulebook, constant, groups, "cpu")


@FORWARD_BY_ROW.implementation("cpu")
def _forward_by_row(features, weights, rulebook, constant, groups):
    """(M, C_out)"""
    if is_narrow(features.shape[1], weights.shape[2], groups):
        return narrow.forward(features, weights, rulebook.neighbours, constant, groups)
    return slices.forward("convolution_forward_by_row", features, weights, rulebook, constant, groups, "cpu")


@INPUT_GRADIENT.implementation("cpu")
def _input_gradient(gradient, weights, rulebook, groups):
    """(N, C_in)"""
    if is_narrow(weights.shape[1] * groups, weights.shape[2], groups, _NARROW_GRADIENT):
        return narrow.input_gradient(gradient, weights, rulebook, groups)
    return slices.input_gradient(gradient, weights, rulebook, groups, "cpu")


@WEIGHT_GRADIENT.implementation("cpu")
def _weight_gradient(features, gradient, rulebook, groups):
    """(K, C_in / G, C_out)"""
    if is_narrow(features.shape[1], gradient.shape[1], groups, _NARROW_GRADIENT):
        return narrow.weight_gradient(features, gradient, rulebook.neighbours, groups)
    return slices.weight_gradient(features, gradient, rulebook, groups, "cpu")


def _reads(kernel: str, limit: int, of_narrow: str, of_narrow_submanifold: str):
    def reads(rulebook, c_in, c_out, groups):
        if is_narrow(c_in, c_out, groups, limit):
            return (of_narrow_submanifold if rulebook.submanifold else of_narrow,)
        return slices.reads(kernel, rulebook, c_in, c_out, groups, "cpu")

    return reads


FORWARD.reads("cpu")(_reads("convolution_forward", NARROW, "neighbours", "neighbours"))
FORWARD_BY_ROW.reads("cpu")(_reads("convolution_forward_by_row", NARROW, "neighbours", "neighbours"))
INPUT_GRADIENT.reads("cpu")(_reads("convolution_input_gradient", _NARROW_GRADIENT, "transposed_neighbours",
                                   "neighbours"))
WEIGHT_GRADIENT.reads("cpu")(_reads("convolution_weight_gradient", _NARROW_GRADIENT, "neighbours", "neighbours"))
