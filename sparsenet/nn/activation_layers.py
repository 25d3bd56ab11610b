"""Activations: layers that map each row by itself, of a Tensor, or of the sites and the background alike.

The sites stay the same, so the dense layer is the same function at every cell.  What a layer read and wrote is recorded
in an `Activation`: see `nn.activations`.
"""

from __future__ import annotations

import operator

import numpy as np

from sparsenet.autograd import Parameter, Tensor
from sparsenet.nn.module import Module
from sparsenet.nn.settings import finite_number, whole_channels
from sparsenet.ops.exponentials import checked_alpha, elu, gelu, sigmoid, silu, tanh
from sparsenet.ops.prelu import prelu
from sparsenet.ops.softmax import softmax
from sparsenet.sparse import SparseTensor


class ActivationLayer(Module):
    """Base class of the activations."""


class ELU(ActivationLayer):
    """x if x > 0, else alpha (e^x - 1); elementwise on a Tensor, or on sites and background; see `ops.elu`.

    alpha : at least 0

    Source: Clevert, Unterthiner & Hochreiter 2016.
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = checked_alpha(alpha)

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"{self.alpha:g}"


class GELU(ActivationLayer):
    """x P(X <= x), X standard normal, by the error function; elementwise on a Tensor, or on sites and background.

    Source: Hendrycks & Gimpel 2016.
    """

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return gelu(x)


class SiLU(ActivationLayer):
    """x / (1 + e^-x), also called swish; elementwise on a Tensor, or on sites and background.

    Source: Hendrycks & Gimpel 2016.
    """

    kind = "silu"

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return silu(x)


class Tanh(ActivationLayer):
    """The hyperbolic tangent; elementwise on a Tensor, or on sites and background."""

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return tanh(x)


class Sigmoid(ActivationLayer):
    """1 / (1 + e^-x); elementwise on a Tensor, or on sites and background, which is 1/2 where it was 0."""

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return sigmoid(x)


class PReLU(ActivationLayer):
    """x if x > 0, else weight * x, with a learned weight for each channel or one for all; see `ops.prelu`.

    channels : C, one slope for each channel of a SparseTensor or a Tensor (B, C); 1: one slope for all channels
    slope : initial value of the weight

    weight : Parameter (channels,).  The paper trains it without weight decay, which would pull it towards ReLU

    Raises TypeError or ValueError if channels is not a whole number of at least 1, or the slope not finite.

    Source: He, Zhang, Ren & Sun 2015.
    """

    kind = "prelu"

    def __init__(self, channels: int = 1, slope: float = 0.25):
        self.channels = whole_channels("PReLU", "channels", channels)
        self.weight = Parameter(np.full(self.channels, finite_number("PReLU", "slope", slope), np.float32))

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return prelu(x, self.weight)

    def extra_repr(self) -> str:
        return str(self.channels)


class Softmax(ActivationLayer):
    """e^x divided by its sum over the channels, of each site and of the background; see `ops.softmax`.

    axis : over which the sum goes; of a SparseTensor -1 or 1, the channels; of a Tensor any

    `ops.softmax_cross_entropy` takes what comes before this layer.

    Raises TypeError if the axis is not an integer.
    """

    def __init__(self, axis: int = -1):
        try:
            self.axis = operator.index(axis)
        except TypeError:
            raise TypeError(f"Softmax: axis is {axis!r}, expected an integer") from None

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return softmax(x, self.axis)

    def extra_repr(self) -> str:
        return "" if self.axis == -1 else f"axis {self.axis}"
