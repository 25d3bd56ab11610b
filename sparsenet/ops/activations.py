"""Activations with an exponential, on sites and background alike: ELU, GELU, SiLU, tanh, sigmoid.

    elu       x if x > 0, else alpha (e^x - 1)     Clevert, Unterthiner, Hochreiter 2016
    gelu      x P(X <= x), X standard normal       Hendrycks, Gimpel 2016; by the error function, not by tanh
    silu      x / (1 + e^-x)                       Hendrycks, Gimpel 2016; also called swish (Ramachandran et al. 2017)
    tanh      (e^x - e^-x) / (e^x + e^-x)
    sigmoid   1 / (1 + e^-x)

All are functions of single elements.  They saturate: none overflows, an infinite input gives the limit, NaN stays NaN.
In float32 values err by at most 6 units in the last place, also where they are small; below 3e-36 they may be 0.
ELU, tanh and sigmoid keep their output for the backward pass, GELU and SiLU, which are not monotonic, their input.
"""

from __future__ import annotations

import numbers
from math import isfinite, prod
from typing import Any, TypeVar

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import activations, launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import SparseTensor

X = TypeVar("X", bound=Tensor | SparseTensor)  # what comes in, and is given back


def elu(x: X, alpha: float = 1.0) -> X:
    """x if x > 0, else alpha (e^x - 1), which is -alpha far below 0.  The gradient at 0 is alpha, as in PyTorch.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row
    alpha : at least 0

    Raises TypeError if x is neither or its elements are not floats, ValueError if alpha is negative or not finite.

    Source: Clevert, Unterthiner & Hochreiter 2016, equation 16.
    """
    return mapped(_exponential("ELU", True, activations.ELU, checked_alpha(alpha)), x)


def gelu(x: X) -> X:
    """x P(X <= x) for a standard normal X: x (1 + erf(x / sqrt 2)) / 2.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row

    Raises TypeError if x is neither, or its elements are not floats.

    Source: Hendrycks & Gimpel 2016, section 2; the exact function, not one of their approximations.
    """
    return mapped(_exponential("GELU", False, activations.GELU), x)


def silu(x: X) -> X:
    """x / (1 + e^-x); 0 at -infinity.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row

    Raises TypeError if x is neither, or its elements are not floats.

    Source: Hendrycks & Gimpel 2016, section 2.
    """
    return mapped(_exponential("SiLU", False, activations.SILU), x)


def tanh(x: X) -> X:
    """The hyperbolic tangent, -1 to 1.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row

    Raises TypeError if x is neither, or its elements are not floats (`Tensor.tanh` takes integers too).
    """
    return mapped(_exponential("Tanh", True, activations.TANH), x)


def sigmoid(x: X) -> X:
    """The logistic function 1 / (1 + e^-x), 0 to 1.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row

    Raises TypeError if x is neither, or its elements are not floats (`Tensor.sigmoid` takes integers too).
    """
    return mapped(_exponential("Sigmoid", True, activations.SIGMOID), x)


def checked_alpha(alpha: Any) -> float:
    """The alpha of ELU as a float.  Raises ValueError unless it is a finite number of at least 0."""
    if not (isinstance(alpha, numbers.Real) and isfinite(alpha) and float(alpha) >= 0):
        raise ValueError(f"ELU: alpha is {alpha!r}, expected a finite number of at least 0")
    return float(alpha)


class Activation(Function):
    """A function of each row, and in the same launch of the background: by the kernels `kernel`_forward (rows,
    *settings, background) and `kernel`_backward (kept, gradients, *settings, background kept, its gradients).

    keeps_output : backward reads the output, else the input
    """

    def __init__(self, name: str, kernel: str, keeps_output: bool, *settings: Any):
        super().__init__()
        self.name, self.kernel, self.keeps_output, self.settings = name, kernel, keeps_output, settings

    def forward(self, x: Any, background: Any) -> Any:
        inputs = (x,) if background is None else (x, background)
        first, *more = map(rows_of, inputs)
        rows = launch(f"{self.kernel}_forward", first, *self.settings, *more)
        results = _in_shape(rows, inputs)
        self.save(*(results if self.keeps_output else inputs))
        return results if more else results[0]

    def backward(self, *gradients: Any) -> tuple[Any, ...]:
        """One launch computes both gradients."""
        pairs = [pair for pair in zip(self.saved, gradients, strict=True) if pair[1] is not None]
        first, *more = [tuple(map(rows_of, pair)) for pair in pairs]
        rows = launch(f"{self.kernel}_backward", *first, *self.settings, *(row for pair in more for row in pair))
        present = iter(_in_shape(rows, [gradient for _, gradient in pairs]))
        results = [None if gradient is None else next(present) for gradient in gradients]
        return (*results, None)[:2]  # without a background it has no gradient


def _exponential(name: str, keeps_output: bool, kind: int, alpha: float = 1.0) -> Activation:
    return Activation(name, "activation", keeps_output, kind, alpha)


def mapped(function: Function, x: Any, *parameters: Tensor) -> Any:
    """The function of a Tensor, or of a SparseTensor's features and background.  Raises TypeError if x is neither."""
    if not isinstance(x, SparseTensor):
        check_tensor(function.name, "the input", x, "a Tensor or SparseTensor")
        return function.apply(x, None, *parameters)
    if x.background is None:
        return x.with_features(function.apply(x.features, None, *parameters), None)
    return x.with_features(*function.apply(x.features, x.background, *parameters))


def rows_of(array: Any) -> Any:
    """A contiguous array of any number of axes as rows (N, C) along its last one; a vector is one row."""
    shape = array.shape or (1,)
    return array_module(array).ascontiguousarray(array).reshape(prod(shape[:-1]), shape[-1])


def _in_shape(rows: Any, like: Any) -> tuple[Any, ...]:
    """Rows, of one array or several, each in the shape of its counterpart in `like`."""
    rows = rows if isinstance(rows, tuple) else (rows,)
    return tuple(row.reshape(one.shape) for row, one in zip(rows, like, strict=True))
