"""PReLU (He et al. 2015): leaky ReLU whose slope is learned, one for each channel or one for all."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.activations import X, mapped, rows_of
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import SparseTensor


def prelu(x: X, weight: Tensor) -> X:
    """x if x > 0, else weight * x; differentiable in x, its background and the weight.  The gradient at 0 is the
    weight, as in PyTorch; the weight's is summed over all rows and the background, in float64.

    x : Tensor (B, C), or SparseTensor, whose background is mapped like any row; with one slope a Tensor of any shape
    weight : Tensor (C,), the slope of each channel, or (1,), one for all channels

    Raises
    ------
    TypeError : x or weight is none of these; dtypes differ, or are not floats.
    ValueError : the weight has another shape.

    Source: He, Zhang, Ren & Sun 2015, equations 1, 8 and 9.
    """
    features = x.features if isinstance(x, SparseTensor) else x
    check_tensor("PReLU", "the input", features, "a Tensor or SparseTensor")
    check_tensor("PReLU", "weight", weight)
    if weight.shape != (1,):
        if features.ndim != 2:
            raise ValueError(f"PReLU: x has shape {features.shape}, expected (B, C), or a weight of shape (1,)")
        if weight.shape != features.shape[1:]:
            raise ValueError(f"PReLU: x has {features.shape[1]} channels, weight has shape {weight.shape}: build the "
                             f"layer with channels={features.shape[1]}, or 1 for one slope")
    if weight.dtype != features.dtype:
        raise TypeError(f"PReLU: weight is {weight.dtype}, x is {features.dtype}: convert one of them")
    return mapped(_PReLU(), x, weight)


class _PReLU(Function):
    def __init__(self) -> None:
        super().__init__()
        self.name = "PReLU"

    def forward(self, x: Any, background: Any, weight: Any) -> Any:
        self.save(x, background, weight)
        rows = [rows_of(x), _vector(weight)]
        if background is None:
            return launch("prelu_forward", *rows).reshape(x.shape)
        out, below = launch("prelu_forward", *rows, rows_of(background))
        return out, below.reshape(background.shape)

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, Any, Any]:
        x, background, weight = self.saved
        gradient = array_module(x).zeros_like(x) if gradient is None else gradient
        rows = [rows_of(x), rows_of(gradient), _vector(weight)]
        if background is not None:
            below = array_module(x).zeros_like(background) if background_gradient is None else background_gradient
            rows += [rows_of(background), rows_of(below)]
        to_x, to_background, to_weight = launch("prelu_backward", *rows)
        return (to_x.reshape(x.shape), None if background is None else to_background.reshape(background.shape),
                to_weight)


def _vector(weight: Any) -> Any:
    return array_module(weight).ascontiguousarray(weight)
