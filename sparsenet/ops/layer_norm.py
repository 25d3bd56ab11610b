"""Layer norm (Ba, Kiros, Hinton 2016), on sites and background alike: over the channels of each cell.

    y = (x - mean) / sqrt(variance + eps) * weight + bias           with the mean and variance of the row x

Each cell is normalised by itself, so the sparse layer equals the dense one in every cell.
"""

from __future__ import annotations

from typing import Any, overload

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_by_channel, check_tensor
from sparsenet.sparse import SparseTensor


class RowNorm(Function):
    """Rows (N, C), normalised in `groups` of neighbouring channels, with weight and bias (C,)."""

    def __init__(self, name: str, groups: int, eps: float):
        super().__init__()
        self.name = name
        self.groups, self.eps = groups, float(eps)

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        x, weight, bias = map(array_module(x).ascontiguousarray, (x, weight, bias))
        y, moments = launch("row_norm_forward", x, weight, bias, self.groups, self.eps, any(self.needs))
        self.save(x, weight, moments)
        return y

    def backward(self, gradient: Any) -> tuple[Any, ...]:
        x, weight, moments = self.saved
        to_x, (to_bias, to_weight) = launch("row_norm_backward", x, gradient, moments, weight)
        gradients = to_x, to_weight.astype(x.dtype), to_bias.astype(x.dtype)
        return tuple(one if need else None for one, need in zip(gradients, self.needs, strict=True))


@overload
def layer_norm(x: SparseTensor, weight: Tensor, bias: Tensor, eps: float = ...) -> SparseTensor: ...
@overload
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = ...) -> Tensor: ...
def layer_norm(x: Any, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Any:
    """x normalised row by row: a SparseTensor on the same sites, or a Tensor (B, C).

    Differentiable in the features, the background (which is normalised like any row), weight and bias.

    weight, bias : Tensors (C,)
    eps : added to the variance

    Raises
    ------
    TypeError : x is neither; dtypes differ.
    ValueError : a shape does not fit.
    """
    sparse = isinstance(x, SparseTensor)
    if not sparse:
        check_tensor("LayerNorm", "the input", x, "a Tensor (B, C) or SparseTensor")
    features = x.features if sparse else x
    check_by_channel("LayerNorm", features, {"weight": weight, "bias": bias})
    y = RowNorm("LayerNorm", 1, eps).apply(features, weight, bias)
    if not sparse:
        return y
    background = x.background
    if background is not None:
        rows = background.reshape(-1, x.channels)
        background = RowNorm("LayerNorm", 1, eps).apply(rows, weight, bias).reshape(background.shape)
    return x.with_features(y, background)
