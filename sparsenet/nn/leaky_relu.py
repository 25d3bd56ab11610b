"""Leaky ReLU and ReLU, which is one of slope 0."""

from __future__ import annotations

from sparsenet.autograd import Tensor
from sparsenet.nn.activation_layers import ActivationLayer
from sparsenet.nn.settings import finite_number
from sparsenet.ops.leaky_relu import leaky_relu
from sparsenet.sparse import SparseTensor


class LeakyReLU(ActivationLayer):
    """x if x > 0, else negative_slope * x; elementwise on a Tensor, or on sites and background."""

    kind = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = finite_number(type(self).__name__, "negative_slope", negative_slope)

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"{self.negative_slope:g}"


class ReLU(LeakyReLU):
    """max(x, 0), a leaky ReLU of slope 0; elementwise on a Tensor, or on sites and background."""

    kind = "relu"

    def __init__(self) -> None:
        super().__init__(0.0)

    def extra_repr(self) -> str:
        return ""
