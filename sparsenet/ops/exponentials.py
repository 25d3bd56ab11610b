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
from math import isfinite
from typing import Any

from sparsenet.kernels import activations
from sparsenet.ops.activations import Activation, X, mapped


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


def _exponential(name: str, keeps_output: bool, kind: int, alpha: float = 1.0) -> Activation:
    return Activation(name, "activation", keeps_output, kind, alpha)
