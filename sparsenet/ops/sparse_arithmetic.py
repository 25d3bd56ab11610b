"""The operators -x, x - y, x * y, x * number and x / number of `SparseTensor`; x + y is `ops.add`.

The background follows: that of x - y is the difference of the backgrounds, and so on, so that the dense grids obey
the same formula in every cell, active or not.
"""

from __future__ import annotations

import numbers
from typing import Any

from sparsenet.autograd import Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.add import Add, on_union
from sparsenet.ops.batch_norm import rows_of
from sparsenet.sparse.tensor import SparseTensor


class Subtract(Add):
    """out[site] = (x at that site, or its background) - (y at that site, or its background)."""

    kernel = "subtract_rows"

    def of_backgrounds(self, x_background: Any, y_background: Any) -> Any:
        return x_background - y_background

    def slopes(self, side: int, gradient: Any, background_gradient: Any) -> tuple[Any, Any]:
        if side == 0:
            return gradient, background_gradient
        return tuple(None if one is None else -one for one in (gradient, background_gradient))


class Multiply(Add):
    """out[site] = (x at that site, or its background) * (y at that site, or its background).

    Each side's gradient is the other side on the union times the gradient, by the same kernel.
    """

    kernel = "multiply_rows"

    def keep(self, x: Any, y: Any, x_background: Any, y_background: Any) -> None:
        of_x, of_y = (self.needs[side] or self.needs[2 + side] for side in (0, 1))
        self.save(*((x, x_background) if of_y else (None, None)), *((y, y_background) if of_x else (None, None)))

    def of_backgrounds(self, x_background: Any, y_background: Any) -> Any:
        return x_background * y_background

    def slopes(self, side: int, gradient: Any, background_gradient: Any) -> tuple[Any, Any]:
        other = 1 - side
        values, background = self.saved[2 * other : 2 * other + 2]
        if gradient is not None:
            gradient = launch(self.kernel, array_module(gradient).ascontiguousarray(gradient), values, None,
                              self.rows[other], None, None if background is None else rows_of(background),
                              self.sites.coordinates)
        return gradient, None if background_gradient is None else background_gradient * background


def _check_other(operation: str, y: Any, or_number: str = "") -> None:
    if not isinstance(y, SparseTensor):
        raise TypeError(f"{operation}: y is {type(y).__name__}, expected a SparseTensor{or_number}: compute with the "
                        "rows alone by x.with_features(...)")


def subtract(x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """x - y: active where either is; a side that lacks a site holds its background there, or 0 if both have none.

    The background of the difference is the difference of the backgrounds.  Differentiable in all four.  If one side has
    all the sites the result stands on them, with their rulebooks: x's if both have.

    Raises
    ------
    TypeError : y is not a SparseTensor; dtypes differ.
    ValueError : spatial sizes, batch sizes or channels differ, or only one has a background.
    """
    _check_other("subtract", y)
    return on_union("subtract", Subtract, x, y)


def multiply(x: SparseTensor, y: SparseTensor | float) -> SparseTensor:
    """x * y, elementwise, and x * number, which stands on x's sites.

    y : SparseTensor, number, or Tensor without axes, which may require a gradient

    Otherwise like `subtract`: active where either is, a side that lacks a site holds its background there (without
    backgrounds 0, so that the product there is 0), and the background of the product is that of the backgrounds.
    """
    if _is_factor(y):
        return _scaled(x, lambda part: part * y)
    _check_other("multiply", y, " or a number")
    return on_union("multiply", Multiply, x, y)


def divide(x: SparseTensor, y: float) -> SparseTensor:
    """x / number, features and background.  Raises TypeError for a SparseTensor y, whose background is mostly 0."""
    if not _is_factor(y):
        raise TypeError(f"divide: y is {type(y).__name__}, expected a number: divide the rows alone by "
                        "x.with_features(x.features / y.features, background)")
    return _scaled(x, lambda part: part / y)


def negate(x: SparseTensor) -> SparseTensor:
    """-x, features and background."""
    return _scaled(x, lambda part: -part)


def _is_factor(y: Any) -> bool:
    return isinstance(y, numbers.Real) or (isinstance(y, Tensor) and not y.ndim)


def _scaled(x: SparseTensor, scale: Any) -> SparseTensor:
    return x.with_features(scale(x.features), None if x.background is None else scale(x.background))


SparseTensor.__sub__ = subtract
SparseTensor.__mul__ = multiply
SparseTensor.__rmul__ = multiply
SparseTensor.__truediv__ = divide
SparseTensor.__neg__ = negate
