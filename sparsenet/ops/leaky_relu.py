"""Leaky ReLU (Maas et al. 2013), on sites and background alike."""

from __future__ import annotations

from typing import Any, overload

from sparsenet.autograd import Function, Tensor
from sparsenet.kernels import launch
from sparsenet.sparse import SparseTensor


@overload
def leaky_relu(x: SparseTensor, slope: float = 0.01) -> SparseTensor: ...
@overload
def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor: ...
def leaky_relu(x: Tensor | SparseTensor, slope: float = 0.01) -> Tensor | SparseTensor:
    """x where x > 0, slope * x elsewhere; the gradient at 0 is slope, as in PyTorch.

    x : Tensor of any shape, or SparseTensor (the background is treated as any row)
    """
    if isinstance(x, SparseTensor):
        background = None if x.background is None else leaky_relu(x.background, slope)
        return x.with_features(_LeakyReLU(slope).apply(x.features), background)
    return _LeakyReLU(slope).apply(x)


class _LeakyReLU(Function):
    def __init__(self, slope: float):
        super().__init__()
        self.name = "LeakyReLU"
        self.slope = float(slope)

    def forward(self, x: Any) -> Any:
        out = launch("leaky_relu_forward", x.reshape(1, -1), self.slope).reshape(x.shape)
        self.save(out if self.slope > 0 else x)  # the next layer reads `out` too: nothing more is kept
        return out

    def backward(self, gradient: Any) -> Any:
        (reference,) = self.saved
        rows = launch("leaky_relu_backward", reference.reshape(1, -1), gradient.reshape(1, -1), self.slope)
        return rows.reshape(gradient.shape)
