"""Softmax over the channels, on sites and background alike, or over an axis of a Tensor."""

from __future__ import annotations

import numbers
from typing import Any

from sparsenet.ops.activations import Activation, X, mapped
from sparsenet.ops.arguments import check_tensor
from sparsenet.ops.operands import normalized_axes
from sparsenet.ops.shaping import transpose
from sparsenet.sparse import SparseTensor


def softmax(x: X, axis: int = -1) -> X:
    """e^x divided by its sum over an axis: numbers from 0 to 1 whose sum is 1.

    x : Tensor, or SparseTensor (features (N, C) and background, each cell for itself)
    axis : of a Tensor, any; of a SparseTensor the channels, -1 or 1

    A row with +infinity or NaN, or of -infinity alone, is NaN, as in PyTorch.  A loss takes logits:
    `softmax_cross_entropy` computes their softmax itself.

    Raises
    ------
    TypeError : x is neither, or its elements are not floats; the axis is not an integer.
    ValueError : there is no such axis.

    Source: Bridle 1990.
    """
    function = Activation("Softmax", "softmax", True)
    if isinstance(axis, bool) or not isinstance(axis, numbers.Integral):
        raise TypeError(f"Softmax: axis is {axis!r}, expected an integer")
    given: Any = x
    if isinstance(x, SparseTensor):
        if axis not in (-1, 1):
            raise ValueError(f"Softmax: axis is {axis}, expected -1 or 1, the channels of a SparseTensor")
        return mapped(function, given)
    check_tensor("Softmax", "the input", x, "a Tensor or SparseTensor")
    (axis,) = normalized_axes("Softmax", axis, given.ndim)
    if axis == given.ndim - 1:
        return mapped(function, given)
    return mapped(function, transpose(given, axis, -1)).transpose(axis, -1)
