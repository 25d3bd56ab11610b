"""From sites to the dense grid, where every inactive cell holds the background, and from a grid to its active cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor


class ToDense(Function):
    """grid[cell] = features[row of the cell's site], or the background if the cell is inactive."""

    def __init__(self, sites: ActiveSites):
        super().__init__()
        self.sites = sites

    def forward(self, features: Any, background: Any) -> Any:
        """(B, C, *spatial) from features (N, C) and a background (C,), (B, C) or None."""
        xp = array_module(features)
        sites, channels = self.sites, features.shape[1]
        grid = xp.zeros((sites.batch_size, sites.cells, channels), features.dtype)
        if background is not None:
            grid += background.reshape(-1, 1, channels)
            self.shared = background.ndim == 1  # by all samples
        grid.reshape(-1, channels)[sites.keys] = features
        grid = grid.reshape(sites.batch_size, *sites.spatial_size, channels)
        return xp.ascontiguousarray(xp.moveaxis(grid, -1, 1))

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        xp = array_module(gradient)
        rows = xp.moveaxis(gradient, 1, -1).copy().reshape(-1, gradient.shape[1])
        features_gradient = rows[self.sites.keys] if self.needs[0] else None
        if not self.needs[1]:
            return features_gradient, None
        rows[self.sites.keys] = 0
        samples = 1 if self.shared else self.sites.batch_size
        splits = xp.arange(samples + 1, dtype=np.int64) * (len(rows) // max(samples, 1))
        total = launch("segment_sum", rows, splits)
        return features_gradient, total[0] if self.shared else total


def to_dense(x: SparseTensor) -> Tensor:
    """The whole grid of a SparseTensor, as a Tensor (B, C, *spatial); differentiable.

    Inactive cells hold `x.background`, or zeros if it is None.  A batch has B grids, empty
    samples included.  The gradient of the background is the sum over the inactive cells.

    Raises
    ------
    TypeError : x is not a SparseTensor.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"to_dense: x is {type(x).__name__}, expected a SparseTensor: "
                        "a Tensor is already dense")
    return ToDense(x.sites).apply(x.features, x.background)


class TakeCells(Function):
    """The rows (N, C) of the active cells of a grid (B, C, *spatial), in row-major order."""

    def __init__(self, active: Any):
        super().__init__()
        self.name = "SparseTensor.from_dense"
        self.active = active  # (B, *spatial) bool

    def forward(self, grid: Any) -> Any:
        xp = array_module(grid)
        return xp.ascontiguousarray(xp.moveaxis(grid, 1, -1)[self.active])

    def backward(self, gradient: Any) -> Any:
        xp = array_module(gradient)
        cells = xp.zeros((*self.active.shape, gradient.shape[1]), gradient.dtype)
        cells[self.active] = gradient
        return xp.moveaxis(cells, -1, 1)


def from_dense(array: Any) -> SparseTensor:
    """`SparseTensor.from_dense`: a SparseTensor of an array or Tensor (B, C, *spatial) in its dtype.  A cell is active
    if any channel is not zero.

    Differentiable: a Tensor gets the gradient of its active cells, and zeros elsewhere.

    Raises
    ------
    ValueError : fewer than 3 or more than 6 axes.
    """
    tensor = array if isinstance(array, Tensor) else Tensor(array)
    array = tensor.array
    if not 3 <= array.ndim <= 6:
        raise ValueError(f"SparseTensor.from_dense: array has shape {array.shape}, expected (B, C, *spatial) "
                         "with 1 to 4 spatial axes")
    active = (array != 0).any(axis=1)
    coordinates = array_module(array).stack(array_module(array).nonzero(active), axis=1)
    return SparseTensor(TakeCells(active).apply(tensor), coordinates, array.shape[2:], array.shape[0])


# set here because sparse/ does not import operations
SparseTensor.to_dense, SparseTensor.from_dense = to_dense, staticmethod(from_dense)
