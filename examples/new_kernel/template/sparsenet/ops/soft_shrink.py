"""Soft shrinkage, on sites and background alike."""

from __future__ import annotations

import math
import numbers
from typing import Any, TypeVar

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import SparseTensor

X = TypeVar("X", bound=Tensor | SparseTensor)  # what comes in, and is given back


def soft_shrink(x: X, limit: float = 0.5) -> X:
    """x - limit if x > limit, x + limit if x < -limit, else 0; the gradient at both limits is 0.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row
    limit : at least 0

    Raises TypeError if x is neither or its elements are not floats, ValueError if the limit is negative or not finite.
    """
    limit = checked_limit(limit)
    if isinstance(x, SparseTensor):
        background = None if x.background is None else _SoftShrink(limit).apply(x.background)
        return x.with_features(_SoftShrink(limit).apply(x.features), background)
    check_tensor("SoftShrink", "the input", x, "a Tensor or SparseTensor")
    return _SoftShrink(limit).apply(x)


def checked_limit(limit: Any) -> float:
    """The limit as a float.  Raises ValueError unless it is a finite number of at least 0."""
    if not (isinstance(limit, numbers.Real) and math.isfinite(limit) and float(limit) >= 0):
        raise ValueError(f"SoftShrink: limit is {limit!r}, expected a finite number of at least 0")
    return float(limit)


class _SoftShrink(Function):
    def __init__(self, limit: float):
        super().__init__()
        self.name, self.limit = "SoftShrink", limit

    def forward(self, x: Any) -> Any:
        self.save(x)
        return launch("soft_shrink_forward", _rows(x), self.limit).reshape(x.shape)

    def backward(self, gradient: Any) -> Any:
        (x,) = self.saved
        return launch("soft_shrink_backward", _rows(x), _rows(gradient), self.limit).reshape(x.shape)


def _rows(array: Any) -> Any:
    """A contiguous array of any number of axes as rows (N, C), which the kernels take; a vector is one row."""
    return array_module(array).ascontiguousarray(array).reshape(-1, array.shape[-1] if array.shape else 1)
