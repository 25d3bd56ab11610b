"""Sparse convolution on a CPU: each pass through the view of the rulebook that costs least (see view.py).

    neighbours.py    gather rows, then multiply: few channels, filled neighbourhoods
    pairs.py         multiply pair by pair: nothing is done for an inactive cell
    by_row.py        either of them in evaluation, where the bits of a row must not depend on other rows

The input gradient is a convolution over the transposed neighbours with transposed weights, or over the pairs with
their columns swapped.  The weight gradient sums over the outputs or over the inputs.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.convolution import by_row, neighbours, pairs, view
from sparsenet.kernels.convolution.contract import CONVOLUTION_FORWARD as FORWARD
from sparsenet.kernels.convolution.contract import CONVOLUTION_FORWARD_BY_ROW as FORWARD_BY_ROW
from sparsenet.kernels.convolution.contract import CONVOLUTION_INPUT_GRADIENT as INPUT_GRADIENT
from sparsenet.kernels.convolution.contract import CONVOLUTION_WEIGHT_GRADIENT as WEIGHT_GRADIENT
from sparsenet.kernels.table import launch


@FORWARD.implementation("cpu")
def _forward(features, weights, rulebook, constant, slope):
    """(M, C_out): the sum over the offsets, plus the constant row, through a leaky ReLU if a slope is given."""
    if view.forward_view(rulebook, *weights.shape[1:]) == "pairs":
        out = pairs.forward(features, weights, rulebook.pairs, rulebook.pair_splits, rulebook.shape[1], constant)
    else:
        out = neighbours.forward(features, weights, rulebook.neighbours, constant)
    return out if slope is None else launch("leaky_relu_forward", out, slope)


@FORWARD_BY_ROW.implementation("cpu")
def _forward_by_row(features, weights, rulebook, constant, slope):
    """(M, C_out).  Both views give the same bits, so that the choice between them may depend on the batch."""
    if view.forward_view(rulebook, *weights.shape[1:]) == "pairs":
        return by_row.over_pairs(features, weights, rulebook.pairs, rulebook.pair_splits, rulebook.shape[1], constant,
                                 slope)
    return by_row.over_neighbours(features, weights, rulebook.neighbours, constant, slope)


@INPUT_GRADIENT.implementation("cpu")
def _input_gradient(gradient, weights, rulebook, turned):
    """(N, C_in)."""
    chosen = view.input_gradient_view(rulebook, *weights.shape[1:])
    if chosen == "pairs":
        return pairs.input_gradient(gradient, weights, rulebook.pairs, rulebook.pair_splits, rulebook.shape[0],
                                    rulebook.non_overlapping)
    if turned is None:
        turned = turned_weights(weights, rulebook.submanifold)
    table = np.ascontiguousarray(getattr(rulebook, chosen))
    return neighbours.forward(gradient, turned, table, None)


@WEIGHT_GRADIENT.implementation("cpu")
def _weight_gradient(features, gradient, rulebook, background, constant_gradient):
    """(K, C_in, C_out), plus background^T constant_gradient, which is the same for each offset, if they are given."""
    chosen = view.weight_gradient_view(rulebook, features.shape[1], gradient.shape[1])
    if chosen == "pairs":
        out = pairs.weight_gradient(features, gradient, rulebook.pairs, rulebook.pair_splits)
    elif chosen == "neighbours":
        out = neighbours.weight_gradient(features, gradient, rulebook.neighbours)
    else:  # over the inputs: out[k]^T = sum over n of gradient[output of n under k]^T features[n]
        table = np.ascontiguousarray(rulebook.transposed_neighbours)
        out = np.ascontiguousarray(neighbours.weight_gradient(gradient, features, table).transpose(0, 2, 1))
    if background is not None:
        out += background[:, None] * constant_gradient
    return out


def turned_weights(weights, reverse):
    """(K, C_out, C_in): each offset's matrix transposed; the offsets in reverse if the neighbours stand in for the
    transposed ones."""
    turned = weights.transpose(0, 2, 1)
    return np.ascontiguousarray(turned[::-1] if reverse else turned)


@FORWARD.reads("cpu")
@FORWARD_BY_ROW.reads("cpu")
def _forward_reads(rulebook, c_in, c_out):
    return (view.forward_view(rulebook, c_in, c_out),)


@INPUT_GRADIENT.reads("cpu")
def _input_gradient_reads(rulebook, c_in, c_out):
    return (view.input_gradient_view(rulebook, c_in, c_out),)


@WEIGHT_GRADIENT.reads("cpu")
def _weight_gradient_reads(rulebook, c_in, c_out):
    return (view.weight_gradient_view(rulebook, c_in, c_out),)
