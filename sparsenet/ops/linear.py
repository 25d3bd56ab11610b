"""Linear map of rows: y = x W + b; of a sparse tensor, its sites' rows and its background."""

from __future__ import annotations

from typing import Any, overload

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import SparseTensor


class Linear(Function):
    """x W + b.

    many_rows : the gradient of b is summed in float64
    """

    def __init__(self, batch_invariant: bool, many_rows: bool = False):
        super().__init__()
        self.kernel, self.many_rows = "matmul_by_row" if batch_invariant else "matmul", many_rows

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
            bias_gradient = launch("segment_sum", gradient)[0] if self.many_rows else gradient.sum(axis=0)
        return x_gradient, weight_gradient, bias_gradient


@overload
def linear(x: SparseTensor, weight: Tensor, bias: Tensor | None = None, batch_invariant: bool = False
           ) -> SparseTensor: ...
@overload
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, batch_invariant: bool = False) -> Tensor: ...
def linear(x: Any, weight: Tensor, bias: Tensor | None = None, batch_invariant: bool = False) -> Any:
    """x (B, C_in) times weight (C_in, C_out), plus bias (C_out,): a Tensor (B, C_out).

    Of a SparseTensor the rows of the sites are mapped, and the background like one of them, so that the dense grids
    obey the same formula in every cell: a convolution of one cell.  With `background=None` the sites alone.

    Differentiable in x, weight and bias.  The weight has the layout of one kernel offset of a convolution, the
    transpose of PyTorch's.

    batch_invariant : on a CPU, the bits of a row of the result do not depend on the other rows; this does not hold
        for gradients.  The layer sets it in evaluation

    Raises
    ------
    ValueError : a shape does not fit.
    TypeError : dtypes differ, or x is neither a Tensor nor a SparseTensor.
    """
    sparse = isinstance(x, SparseTensor)
    rows = x.features if sparse else x
    check_tensor("Linear", "the input", rows, "a Tensor or SparseTensor")
    if rows.ndim != 2 or weight.ndim != 2:
        raise ValueError(f"Linear: x has shape {rows.shape} and weight {weight.shape}, expected (B, C_in) and "
                         "(C_in, C_out)")
    if rows.shape[1] != weight.shape[0]:
        raise ValueError(f"Linear: x has {rows.shape[1]} channels, the weights expect {weight.shape[0]}: build "
                         f"the layer with in_features={rows.shape[1]}")
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError(f"Linear: bias has shape {bias.shape}, expected {weight.shape[1:]}, the columns of "
                         "weight")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != rows.dtype:
            raise TypeError(f"Linear: {name} is {tensor.dtype}, x is {rows.dtype}: convert one of them")
    y = Linear(batch_invariant, many_rows=sparse).apply(rows, weight, bias)
    if not sparse:
        return y
    background = x.background
    if background is not None:
        given = background.reshape(-1, rows.shape[1])
        mapped = Linear(batch_invariant).apply(given, weight, bias)
        background = mapped.reshape(*background.shape[:-1], weight.shape[1])
    return x.with_features(y, background)
