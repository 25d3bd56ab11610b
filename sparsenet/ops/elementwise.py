"""Functions of single elements: exp, log, sqrt, abs, clip, maximum, minimum, where; tanh and sigmoid: `exponentials`.

Each has its derivative.  At points without one the gradient is PyTorch's:

    abs                  0 at 0
    sqrt                 infinite at 0
    clip                 1 at both bounds
    maximum, minimum     half to each of two equal elements

exp, log and sqrt of integers and truth values are float32.  Outside a function's domain, as in log(0),
values and warnings are those of the array library.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.ops.arithmetic import sum_to
from sparsenet.ops.operands import check_broadcast, floating_point, operands


class Formula(NamedTuple):
    """value : (xp, x) -> y = f(x);  saves : which of x and y the derivative is a function of
    gradient : (xp, gradient, x or y) -> gradient * f'(x)
    """

    value: Callable[[Any, Any], Any]
    saves: str
    gradient: Callable[[Any, Any, Any], Any]


FORMULAS = {
    "exp": Formula(lambda xp, x: xp.exp(x), "y", lambda xp, gradient, y: gradient * y),
    "log": Formula(lambda xp, x: xp.log(x), "x", lambda xp, gradient, x: gradient / x),
    "sqrt": Formula(lambda xp, x: xp.sqrt(x), "y", lambda xp, gradient, y: gradient / (2 * y)),
    "abs": Formula(lambda xp, x: xp.abs(x), "x", lambda xp, gradient, x: gradient * xp.sign(x)),
}


class Elementwise(Function):
    """One of FORMULAS."""

    def __init__(self, name: str):
        super().__init__()
        self.name, self.formula = name, FORMULAS[name]

    def forward(self, x: Any) -> Any:
        y = self.formula.value(array_module(x), x)
        y = y if y.ndim else array_module(x).asarray(y)  # NumPy's functions return scalars
        self.save(x if self.formula.saves == "x" else y)
        return y

    def backward(self, gradient: Any) -> Any:
        (saved,) = self.saved
        return self.formula.gradient(array_module(gradient), gradient, saved)


class Clip(Function):
    """min(max(x, low), high); the gradient passes where low <= x <= high."""

    def __init__(self, low: float | None, high: float | None):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Any) -> Any:
        self.save(x)
        return array_module(x).clip(x, self.low, self.high)

    def backward(self, gradient: Any) -> Any:
        (x,) = self.saved
        inside = x == x  # False for NaN
        inside = inside if self.low is None else inside & (x >= self.low)
        inside = inside if self.high is None else inside & (x <= self.high)
        return chosen(inside, gradient)


class Extreme(Function):
    """The larger or the smaller of two elements: its gradient goes to that one, half to each of two equal ones."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name  # "maximum" or "minimum"

    def forward(self, a: Any, b: Any) -> Any:
        self.save(a, b)
        return getattr(array_module(a), self.name)(a, b)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a, b = self.saved
        xp = array_module(gradient)
        shared = xp.where(a == b, gradient / 2, gradient)
        lost = (a < b, b < a) if self.name == "maximum" else (b < a, a < b)
        return tuple(sum_to(chosen(~less, shared), one.shape) if need else None
                     for less, one, need in zip(lost, (a, b), self.needs, strict=True))  # type: ignore[return-value]


class Where(Function):
    """x where the condition holds, else y; the gradient of an element goes to the operand it was taken from."""

    def __init__(self, condition: Any):
        super().__init__()
        self.condition = condition

    def forward(self, x: Any, y: Any) -> Any:
        self.save(x.shape, y.shape)
        return array_module(x).where(self.condition, x, y)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        x_shape, y_shape = self.saved
        return (sum_to(chosen(self.condition, gradient), x_shape) if self.needs[0] else None,
                sum_to(chosen(~self.condition, gradient), y_shape) if self.needs[1] else None)


def chosen(mask: Any, gradient: Any) -> Any:
    """The gradient where the mask holds, 0 elsewhere (also where the gradient is not finite)."""
    return array_module(gradient).where(mask, gradient, gradient.dtype.type(0))


def elementwise(name: str, x: Any) -> Tensor:
    """FORMULAS[name] of each element, a Tensor of the shape of x."""
    return Elementwise(name).apply(x if name == "abs" else floating_point(name, x))


def clip(x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """Each element, or the bound that it exceeds; a Tensor of the shape of x, NaN kept.  The gradient at a bound is 1.

    min, max : numbers, or None for no bound; integers are clipped to integers

    Raises TypeError if there is no bound or one is not a number, ValueError if min exceeds max.
    """
    if min is None and max is None:
        raise TypeError("clip: min and max are None, expected at least one number")
    for name, bound in (("min", min), ("max", max)):
        if not isinstance(bound, numbers.Real | None):
            raise TypeError(f"clip: {name} is {type(bound).__name__}, expected a number: for bounds that differ by "
                            "element use sn.maximum and sn.minimum")
    if min is not None and max is not None and min > max:
        raise ValueError(f"clip: min is {min}, max is {max}, expected min <= max")
    x, *bounds = operands("clip", x, *(bound for bound in (min, max) if bound is not None))
    low, high = (None if bound is None else bounds.pop(0).array for bound in (min, max))
    return Clip(low, high).apply(x)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two elements, broadcast; NaN if one is NaN.  Two equal elements get half of the gradient each.

    x, y : Tensors, arrays or numbers, brought to one dtype as the operands of `+` are

    Raises ValueError if the shapes do not broadcast, TypeError if the dtypes do not agree.
    """
    return _extreme("maximum", x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of two elements, broadcast; NaN if one is NaN.  Otherwise like `maximum`."""
    return _extreme("minimum", x, y)


def _extreme(name: str, x: Any, y: Any) -> Tensor:
    x, y = operands(name, x, y)
    check_broadcast(name, x.shape, y.shape)
    return Extreme(name).apply(x, y)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition holds, y elsewhere; all three broadcast.

    condition : Tensor or array of bool, such as a comparison
    x, y : Tensors, arrays or numbers, brought to one dtype as the operands of `+` are

    Each gets the gradient of the elements taken from it, 0 for the others.  Both are computed before one is chosen:
    where(x > 0, x.log(), 0) has the gradient 0 / 0 = NaN at x = 0, where(x > 0, x, 1).log() has 0.

    Raises ValueError if the shapes do not broadcast, TypeError if the condition is not bool or the dtypes do not agree.
    """
    condition = condition.array if isinstance(condition, Tensor) else condition
    dtype = getattr(condition, "dtype", None)
    if dtype != np.dtype(bool):
        found = type(condition).__name__ if dtype is None else dtype
        raise TypeError(f"where: condition is {found}, expected a Tensor or array of bool: pass a comparison, such as "
                        "x > 0")
    x, y = operands("where", x, y)
    array_module(condition, x.array, y.array)  # raises if the devices differ
    check_broadcast("where", condition.shape, x.shape, y.shape)
    return Where(condition).apply(x, y)
