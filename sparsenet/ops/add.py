"""The sum of two sparse tensors on the union of their sites."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.batch_norm import rows_of
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import check_agreement, gather, missing_rows, union


class Add(Function):
    """out[site] = (x at that site, or its background) + (y at that site, or its background).

    sites, rows : the union, and the rows in it of x's sites and of y's (see `sparse.union`)
    """

    def __init__(self, sites: ActiveSites, rows: tuple[Any | None, ...]):
        super().__init__()
        self.sites, self.rows = sites, rows

    def forward(self, x: Any, y: Any, x_background: Any, y_background: Any) -> Any:
        x, y = map(array_module(x).ascontiguousarray, (x, y))
        if x_background is None:
            return launch("add_rows", x, y, *self.rows, None, None, self.sites.coordinates)
        out = launch("add_rows", x, y, *self.rows, rows_of(x_background), rows_of(y_background), self.sites.coordinates)
        self.shared = (x_background.ndim == 1, y_background.ndim == 1)  # by all samples; else (B, C)
        return out, x_background + y_background

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, ...]:
        features = [None if gradient is None or not need else gather(gradient, rows)
                    for rows, need in zip(self.rows, self.needs[:2], strict=True)]
        backgrounds = [self._to_background(gradient, background_gradient, rows, shared) if need else None
                       for rows, need, shared in zip(self.rows, self.needs[2:], self.shared, strict=True)
                       ] if any(self.needs[2:]) else [None, None]
        return (*features, *backgrounds)

    def _to_background(self, gradient: Any, background_gradient: Any, rows: Any, shared: bool) -> Any:
        """The gradient of the output's background plus that of the rows that had no site of their own."""
        total = background_gradient
        if total is not None and shared and total.ndim == 2:
            total = total.sum(axis=0)
        missing = None if gradient is None else missing_rows(gradient, rows, self.sites, shared)
        return total if missing is None else missing if total is None else total + missing


def add(x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """x + y, active where either is; a side without a site there adds its background.

    The background of the sum is the sum of the backgrounds; if both are None, a missing row adds nothing.
    Differentiable in features and backgrounds.  If the sites of one contain those of the other, the result has that
    very object as its sites, with its rulebooks; x's if they are equal.

    Raises
    ------
    TypeError : x or y is not a SparseTensor; their dtypes differ.
    ValueError : spatial sizes, batch sizes or channels differ, or only one has a background.
    """
    for name, tensor in (("x", x), ("y", y)):
        if not isinstance(tensor, SparseTensor):
            raise TypeError(f"add: {name} is {type(tensor).__name__}, expected a SparseTensor")
    check_agreement("add", (x, y), "spatial_size", "batch_size", "channels")
    sites, rows = union(x.sites, y.sites)
    result = Add(sites, rows).apply(x.features, y.features, x.background, y.background)
    features, background = result if isinstance(result, tuple) else (result, None)
    return SparseTensor.from_sites(features, sites, background)


SparseTensor.__add__ = add  # set here because sparse/ does not import operations
