"""Pruning: some of the sites of a sparse tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module, device_of
from sparsenet.sparse import ActiveSites, SparseTensor


class Prune(Function):
    """The rows (M,) of features (N, C); the others get the gradient 0."""

    def __init__(self, rows: Any):
        super().__init__()
        self.rows = rows

    def forward(self, features: Any) -> Any:
        self.shape = features.shape
        return features[self.rows]

    def backward(self, gradient: Any) -> Any:
        result = array_module(gradient).zeros(self.shape, gradient.dtype)
        result[self.rows] = gradient
        return result


def prune(x: SparseTensor, keep: Any) -> SparseTensor:
    """The sites of x that are to be kept, with their features and the background of x, on sites of their own.

    The cells that are dropped become inactive.  So the dense grid is that of x with these cells reset to the
    background (0 if it is None); a dense network has no such layer, which leaves the cells as they are.  No gradient
    reaches the features that are dropped; what is computed from their cells later has a gradient for the background.

    keep : (N,) bool array, list or Tensor, for each site in the order of `x.features`, such as
        x.features.max(axis=1) > 0.5

    Raises
    ------
    TypeError : x is not a SparseTensor; keep is not of bools, or on another device.
    ValueError : keep has another shape.

    Example
    -------
    >>> x = SparseTensor(np.array([[1.0], [5.0], [2.0]]), np.array([[0, 1], [0, 2], [0, 3]]), (4,), batch_size=1)
    >>> prune(x, x.features[:, 0] > 1.5).coordinates.tolist()
    [[0, 2], [0, 3]]
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"prune: x is {type(x).__name__}, expected a SparseTensor")
    keep = keep.array if isinstance(keep, Tensor) else keep
    keep = np.asarray(keep, bool if len(keep) == 0 else None) if isinstance(keep, (list, tuple)) else keep
    if getattr(keep, "dtype", None) != np.dtype(bool):
        raise TypeError(f"prune: keep is {getattr(keep, 'dtype', type(keep).__name__)}, expected an array of bools, "
                        "such as x.features[:, 0] > 0")
    if keep.shape != (len(x),):
        raise ValueError(f"prune: keep has shape {keep.shape}, expected ({len(x)},), a bool for each site")
    if device_of(keep) != x.device:
        raise TypeError(f"prune: keep is on {device_of(keep)}, x on {x.device}: move one of them")
    rows = array_module(keep).flatnonzero(keep)
    sites = ActiveSites.from_keys(x.sites.keys[rows], x.spatial_size, x.batch_size)
    return SparseTensor.from_sites(Prune(rows).apply(x.features), sites, x.background)
