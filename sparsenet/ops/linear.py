"""Linear map of rows: y = x W + b."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor


class Linear(Function):
    """x W + b."""

    def __init__(self, batch_invariant: bool):
        super().__init__()
        self.kernel = "matmul_by_row" if batch_invariant else "matmul"

    def forward(self, x: Any, weight: Any, bias: Any) -> Any:
        xp = array_module(x)
        x, weight = xp.ascontiguousarray(x), xp.ascontiguousarray(weight)
        self.save(x if self.needs[1] else None, weight if self.needs[0] else None)
        out = launch(self.kernel, x, weight)
        if bias is not None:
            out += bias
        return out

    def backward(self, gradient: Any) -> tuple[Any, Any, Any]:
        x, weight = self.saved
        xp = array_module(gradient)
        gradient = xp.ascontiguousarray(gradient)
        x_gradient = weight_gradient = bias_gradient = None
        if self.needs[0]:
            x_gradient = launch("matmul", gradient, xp.ascontiguousarray(weight.T))
        if self.needs[1]:
            weight_gradient = launch("matmul", xp.ascontiguousarray(x.T), gradient)
        if self.needs[2]:
            bias_gradient = gradient.sum(axis=0)
        return x_gradient, weight_gradient, bias_gradient


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, batch_invariant: bool = False) -> Tensor:
    """x (B, C_in) times weight (C_in, C_out), plus bias (C_out,): a Tensor (B, C_out).

    Differentiable in all three.  The weight has the layout of one kernel offset of a convolution, the
    transpose of PyTorch's.

    batch_invariant : on a CPU, the bits of a row of the result do not depend on the other rows; this does not hold
        for gradients.  The layer sets it in evaluation

    Raises
    ------
    ValueError : a shape does not fit.
    TypeError : dtypes differ, or x is not a Tensor.
    """
    check_tensor("Linear", "the input", x)
    if x.ndim != 2 or weight.ndim != 2:
        raise ValueError(f"Linear: x has shape {x.shape} and weight {weight.shape}, expected (B, C_in) and "
                         "(C_in, C_out)")
    if x.shape[1] != weight.shape[0]:
        raise ValueError(f"Linear: x has {x.shape[1]} channels, the weights expect {weight.shape[0]}: build "
                         f"the layer with in_features={x.shape[1]}")
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError(f"Linear: bias has shape {bias.shape}, expected {weight.shape[1:]}, the columns of "
                         "weight")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != x.dtype:
            raise TypeError(f"Linear: {name} is {tensor.dtype}, x is {x.dtype}: convert one of them")
    return Linear(batch_invariant).apply(x, weight, bias)
