"""The sum of two sparse tensors on the union of their sites."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor


class Add(Function):
    """out[row] = x's row there, or its background, + y's row there, or its background.

    sites : the union; rows : the rows in it that x's sites have, and y's
    """

    def __init__(self, sites: ActiveSites, rows: tuple[Any, Any]):
        super().__init__()
        self.sites, self.rows = sites, rows

    def forward(self, x: Any, y: Any, x_background: Any, y_background: Any) -> Any:
        xp = array_module(x)
        result = xp.zeros((len(self.sites), x.shape[1]), x.dtype)
        for features, background, rows in zip((x, y), (x_background, y_background), self.rows, strict=True):
            if background is None or len(rows) == len(result):
                result[rows] += features
            else:
                term = xp.empty_like(result)
                term[:] = background if background.ndim == 1 else background[self.sites.coordinates[:, 0]]
                term[rows] = features
                result += term
        if x_background is None:
            return result
        self.shared = (x_background.ndim == 1, y_background.ndim == 1)  # else (B, C): samples differ
        return result, x_background + y_background

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, ...]:
        features = [None if gradient is None or not need else gradient[rows]
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
        if gradient is None or len(rows) == len(self.sites):
            return total
        rest = gradient.copy()
        rest[rows] = 0
        of_samples = launch("segment_sum", rest, self.sites.batch_splits)
        missing = of_samples.sum(axis=0) if shared else of_samples
        return missing if total is None else total + missing


def add(x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """x + y: active where either is; where one has no site its background is added.

    The background of the sum is the sum of the backgrounds.  Where both are None, a missing row
    adds nothing.  Differentiable in all four.  Equal sites are shared with the result, with the
    rulebooks they hold.

    Raises
    ------
    TypeError : x or y is no SparseTensor; their dtypes differ.
    ValueError : spatial sizes, batch sizes or channels differ, or one has a background only.
    """
    for name, tensor in (("x", x), ("y", y)):
        if not isinstance(tensor, SparseTensor):
            raise TypeError(f"add: {name} is {type(tensor).__name__}, expected a SparseTensor")
    for what in ("spatial_size", "batch_size", "channels"):
        if getattr(x, what) != getattr(y, what):
            raise ValueError(f"add: y has {what} {getattr(y, what)}, x has {getattr(x, what)}: they must agree")
    if x.dtype != y.dtype:
        raise TypeError(f"add: y is {y.dtype}, x is {x.dtype}: convert one of them")
    if (x.background is None) != (y.background is None):
        raise ValueError(f"add: {'x' if x.background is None else 'y'} has background None, the other has "
                         "one: give both a background, or neither")
    sites, rows = _union(x.sites, y.sites)
    result = Add(sites, rows).apply(x.features, y.features, x.background, y.background)
    features, background = result if isinstance(result, tuple) else (result, None)
    return SparseTensor.from_sites(features, sites, background)


def _union(x: ActiveSites, y: ActiveSites) -> tuple[ActiveSites, tuple[Any, Any]]:
    """The sites of both, and the rows in it of each."""
    xp = array_module(x.keys, y.keys)
    if x is y or xp.array_equal(x.keys, y.keys):
        everything = xp.arange(len(x))
        return x, (everything, everything)
    keys = xp.union1d(x.keys, y.keys)
    sites = ActiveSites.from_keys(keys, x.spatial_size, x.batch_size)
    return sites, (xp.searchsorted(keys, x.keys), xp.searchsorted(keys, y.keys))


SparseTensor.__add__ = add  # x + y: sparse/ knows no operations
