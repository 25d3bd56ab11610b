"""The operators -x, x - y, x * y, x * number and x / number of `SparseTensor`; x + y is `ops.add`.

The background follows: that of x - y is the difference of the backgrounds, and so on, so that the dense grids obey
the same formula in every cell, active or not.
"""

from __future__ import annotations

import numbers
from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import check_agreement, gather, missing_rows, spread, union


class Spread(Function):
    """The rows of a tensor at its sites within `sites`, elsewhere its background, or zeros if it has none.

    rows : (N,) int64, the rows in `sites` of its own sites
    """

    def __init__(self, sites: ActiveSites, rows: Any):
        super().__init__()
        self.sites, self.rows = sites, rows

    def forward(self, features: Any, background: Any) -> Any:
        self.shared = background is not None and background.ndim == 1  # by all samples
        return spread(features, self.rows, background, self.sites)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        return (gather(gradient, self.rows) if self.needs[0] else None,
                missing_rows(gradient, self.rows, self.sites, self.shared) if self.needs[1] else None)


def _on_union(operation: str, x: SparseTensor, y: Any) -> tuple[ActiveSites, list[Tensor]]:
    """The union of the sites, and the rows of each tensor on it."""
    if not isinstance(y, SparseTensor):
        raise TypeError(f"{operation}: y is {type(y).__name__}, expected a SparseTensor"
                        + (" or a number" if operation == "multiply" else "")
                        + ": compute with the rows alone by x.with_features(...)")
    check_agreement(operation, (x, y), "spatial_size", "batch_size", "channels")
    sites, rows = union(x.sites, y.sites)
    return sites, [one.features if at is None else Spread(sites, at).apply(one.features, one.background)
                   for one, at in zip((x, y), rows, strict=True)]


def subtract(x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """x - y: active where either is; a side that lacks a site holds its background there, or 0 if both have none.

    The background of the difference is the difference of the backgrounds.  Differentiable in all four.  If one side has
    all the sites the result stands on them, with their rulebooks: x's if both have.

    Raises
    ------
    TypeError : y is not a SparseTensor; dtypes differ.
    ValueError : spatial sizes, batch sizes or channels differ, or only one has a background.
    """
    sites, (a, b) = _on_union("subtract", x, y)
    background = None if x.background is None else x.background - y.background
    return SparseTensor.from_sites(a - b, sites, background)


def multiply(x: SparseTensor, y: SparseTensor | float) -> SparseTensor:
    """x * y, elementwise, and x * number, which stands on x's sites.

    y : SparseTensor, number, or Tensor without axes, which may require a gradient

    Otherwise like `subtract`: active where either is, a side that lacks a site holds its background there (without
    backgrounds 0, so that the product there is 0), and the background of the product is that of the backgrounds.
    """
    if _is_factor(y):
        return _scaled(x, lambda part: part * y)
    sites, (a, b) = _on_union("multiply", x, y)
    background = None if x.background is None else x.background * y.background
    return SparseTensor.from_sites(a * b, sites, background)


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
