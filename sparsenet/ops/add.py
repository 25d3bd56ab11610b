"""The sum of two sparse tensors on the union of their sites, and the form of other elementwise functions of two."""

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

    Other functions of two numbers than their sum state their kernel, `of_backgrounds` and `slopes`.

    sites, rows : the union, and the rows in it of x's sites and of y's (see `sparse.union`)
    """

    kernel = "add_rows"

    def __init__(self, sites: ActiveSites, rows: tuple[Any | None, ...]):
        super().__init__()
        self.sites, self.rows = sites, rows

    def forward(self, x: Any, y: Any, x_background: Any, y_background: Any) -> Any:
        x, y = map(array_module(x).ascontiguousarray, (x, y))
        self.keep(x, y, x_background, y_background)
        if x_background is None:
            return launch(self.kernel, x, y, *self.rows, None, None, self.sites.coordinates)
        out = launch(self.kernel, x, y, *self.rows, rows_of(x_background), rows_of(y_background),
                     self.sites.coordinates)
        self.shared = (x_background.ndim == 1, y_background.ndim == 1)  # by all samples; else (B, C)
        return out, self.of_backgrounds(x_background, y_background)

    def keep(self, x: Any, y: Any, x_background: Any, y_background: Any) -> None:
        """Save what `slopes` needs: nothing."""

    def of_backgrounds(self, x_background: Any, y_background: Any) -> Any:
        """The background of the result."""
        return x_background + y_background

    def slopes(self, side: int, gradient: Any, background_gradient: Any) -> tuple[Any, Any]:
        """The gradients of side 0, x, or 1, y: at all sites of the union, and of its background; None if it is None."""
        return gradient, background_gradient

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, ...]:
        features: list[Any] = [None, None]
        backgrounds: list[Any] = [None, None]
        for side, rows in enumerate(self.rows):
            of_features, of_background = self.needs[side], self.needs[2 + side]
            if not (of_features or of_background):
                continue
            at_sites, at_background = self.slopes(side, gradient, background_gradient)
            if of_features and at_sites is not None:
                features[side] = gather(at_sites, rows)
            if of_background:
                backgrounds[side] = self._to_background(at_sites, at_background, rows, self.shared[side])
        return (*features, *backgrounds)

    def _to_background(self, gradient: Any, background_gradient: Any, rows: Any, shared: bool) -> Any:
        """The gradient of the output's background plus that of the rows that had no site of their own."""
        total = background_gradient
        if total is not None and shared and total.ndim == 2:
            total = total.sum(axis=0)
        missing = None if gradient is None else missing_rows(gradient, rows, self.sites, shared)
        return total if missing is None else missing if total is None else total + missing


def on_union(operation: str, function: type[Add], x: SparseTensor, y: SparseTensor) -> SparseTensor:
    """The function of two SparseTensors on the union of their sites.

    Raises ValueError or TypeError, which names the operation, if they do not agree.
    """
    check_agreement(operation, (x, y), "spatial_size", "batch_size", "channels")
    sites, rows = union(x.sites, y.sites)
    result = function(sites, rows).apply(x.features, y.features, x.background, y.background)
    features, background = result if isinstance(result, tuple) else (result, None)
    return SparseTensor.from_sites(features, sites, background)


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
    return on_union("add", Add, x, y)


SparseTensor.__add__ = add  # set here because sparse/ does not import operations
