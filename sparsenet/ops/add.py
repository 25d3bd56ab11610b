"""Sum of sparse tensors on the union of their sites."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import check_agreement, gather, missing_rows, spread, union


class Add(Function):
    """out[row] = x's row there, or its background, + y's row there, or its background.

    sites : the union; rows : the rows in it that x's sites have, and y's; None: all of them
    """

    def __init__(self, sites: ActiveSites, rows: tuple[Any | None, ...]):
        super().__init__()
        self.sites, self.rows = sites, rows

    def forward(self, x: Any, y: Any, x_background: Any, y_background: Any) -> Any:
        out = (spread(x, self.rows[0], x_background, self.sites) + spread(y, self.rows[1], y_background, self.sites))
        if x_background is None:
            return out
        self.shared = (x_background.ndim == 1, y_background.ndim == 1)  # else (B, C): samples differ
        return out, x_background + y_background

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, ...]:
        features = [None if gradient is None or not need else gather(gradient, rows)
                    for rows, need in zip(self.rows, self.needs[:2], strict=True)]
        backgrounds = [self._to_background(gradient, background_gradient, rows, shared) if need else None
                       for rows, need, shared in zip(self.rows, self.needs[2:], self.shared, strict=True)
                       ] if any(self.needs[2:]) else [None, None]
        return (*features, *backgrounds)

    def _to_background(self, gradient: Any, background_gradient: Any, rows: Any, shared: bool) -> Any:
        """What the output's background got, and the rows where there was no site."""
        total = background_gradient
        if total is not None and shared and total.ndim == 2:
            total = total.sum(axis=0)
        missing = None if gradient is None else missing_rows(gradient, rows, self.sites, shared)
        return total if missing is None else missing if total is None else total + missing


def add(x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """x + y: active where either is; where one has no site its background is added.

    The background of the sum is the sum of the backgrounds.  Where both are None, a missing row
    adds nothing.  Differentiable in all four.  If one of them has all the sites, the result shares them, with the
    rulebooks they hold: x's if both have.

    Raises
    ------
    TypeError : x or y is no SparseTensor; their dtypes differ.
    ValueError : spatial sizes, batch sizes or channels differ, or one has a background only.
    """
    for name, tensor in (("x", x), ("y", y)):
        if not isinstance(tensor, SparseTensor):
            raise TypeError(f"add: {name} is {type(tensor).__name__}, expected a SparseTensor")
    check_agreement("add", (x, y), "spatial_size", "batch_size", "channels")
    sites, rows = union(x.sites, y.sites)
    result = Add(sites, rows).apply(x.features, y.features, x.background, y.background)
    features, background = result if isinstance(result, tuple) else (result, None)
    return SparseTensor.from_sites(features, sites, background)


SparseTensor.__add__ = add  # x + y: sparse/ knows no operations
