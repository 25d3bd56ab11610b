"""Cosine classifier: y = scale * x W, with the rows of x and the columns of W divided by their norms.

Source: Wang et al., NormFace (2017); without a bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.ops.unit_vectors import checked_number, product, unit_gradient, unit_vectors


class CosineLinear(Function):
    def __init__(self, scale: float, batch_invariant: bool):
        super().__init__()
        self.scale, self.kernel = scale, "matmul_by_row" if batch_invariant else "matmul"

    def forward(self, x: Any, weight: Any) -> Any:
        xp = array_module(x)
        (units, norms), (vectors, lengths) = unit_vectors(x), unit_vectors(weight.T)
        self.save(units, norms, vectors, lengths)
        out = launch(self.kernel, units.astype(x.dtype), xp.ascontiguousarray(vectors.T, dtype=x.dtype))
        return out * x.dtype.type(self.scale)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        units, norms, vectors, lengths = self.saved
        slopes, dtype = gradient.astype(np.float64) * self.scale, gradient.dtype
        x_gradient = weight_gradient = None
        if self.needs[0]:
            x_gradient = unit_gradient(product(slopes, vectors), units, norms).astype(dtype)
        if self.needs[1]:
            weight_gradient = unit_gradient(product(slopes.T, units), vectors, lengths).T.astype(dtype)
        return x_gradient, weight_gradient


def cosine_linear(x: Tensor, weight: Tensor, scale: float, batch_invariant: bool = False) -> Tensor:
    """scale times the cosine of each row of x (B, C_in) with each column of weight (C_in, C_out): a Tensor (B, C_out).

    Differentiable in both.  A zero row or column has cosine 0 and gradient 0.

    scale : above 0
    batch_invariant : on a CPU, the bits of a row of the result do not depend on the other rows

    Raises
    ------
    ValueError : a shape does not fit, or scale is out of range.
    TypeError : dtypes differ, or x is not a Tensor.
    """
    check_tensor("CosineLinear", "the input", x)
    if x.ndim != 2 or weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"CosineLinear: x has shape {x.shape} and weight {weight.shape}, expected (B, C_in) and "
                         "(C_in, C_out), C_in and C_out at least 1")
    if x.shape[1] != weight.shape[0]:
        raise ValueError(f"CosineLinear: x has {x.shape[1]} channels, the weights expect {weight.shape[0]}: build "
                         f"the layer with in_features={x.shape[1]}")
    if x.dtype.kind != "f" or weight.dtype != x.dtype:
        raise TypeError(f"CosineLinear: weight is {weight.dtype}, x is {x.dtype}, expected one floating-point dtype: "
                        "convert one of them")
    return CosineLinear(checked_number("CosineLinear", "scale", scale, above=True), batch_invariant).apply(x, weight)
