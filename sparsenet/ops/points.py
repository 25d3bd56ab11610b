"""From points to sites and back: the features of the points in a cell reduced to one row, and rows read at points.

    cell of a point p          floor((p - origin) / voxel_size), in float64
    from_points     out[n]   = mean, sum, maximum or first of features[p] over the points p in cell n
    at_points       out[p]   = row of p's cell; or, between the centres of the 2^D cells around p,
                               sum over k of weights[p, k] * row of cell k

A cell without a site, or outside the grid, holds the background, or zeros.  Each is the gradient of the other: that of
`from_points` is read at the points, that of `at_points` is summed over the points of each site.
"""

from __future__ import annotations

from operator import index as as_index
from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module, check_float_dtype, wide_dtype
from sparsenet.kernels import launch
from sparsenet.sparse.points import (
    Grid,
    Groups,
    array_of_points,
    check_devices,
    first_of_runs,
    group,
    keys_of_points,
    numbers_by_axis,
    rows_at_points,
    samples_of_points,
    smallest_grid,
    splits_of,
    voxel_sizes,
)
from sparsenet.sparse.sites import ActiveSites, checked_batch, checked_size
from sparsenet.sparse.tensor import SparseTensor

REDUCTIONS = ("mean", "sum", "max", "first")
MODES = ("nearest", "trilinear")


class ReducePoints(Function):
    """One row (N, C) for each group of points.

    splits : (N+1,) int64, of the groups' members
    index : (P,) int32, the group of each point, -1: none
    """

    def __init__(self, members: Any, splits: Any, index: Any, reduce: str):
        super().__init__()
        self.name = "from_points"
        self.members, self.splits, self.index, self.reduce = members, splits, index, reduce

    def forward(self, features: Any) -> Any:
        features = array_module(features).ascontiguousarray(features)
        if self.reduce == "max":
            out, chosen = launch("group_max", features, self.members, self.splits)
            self.save(chosen)
            return out
        if self.reduce == "first":
            return features[self.members[self.splits[:-1]]]
        return launch("group_sum", features, self.members, self.splits, None, self.reduce == "mean")

    def backward(self, gradient: Any) -> Any:
        xp, dtype = array_module(gradient), gradient.dtype
        if self.reduce in ("sum", "mean"):
            if self.reduce == "mean":
                wide = wide_dtype(dtype)
                sizes = xp.diff(self.splits).astype(wide)[:, None]
                gradient = (gradient.astype(wide, copy=False) / sizes).astype(dtype, copy=False)
            return launch("interpolate_rows", gradient, self.index[:, None])
        out = xp.zeros((len(self.index), gradient.shape[1]), dtype)
        if self.reduce == "first":
            out[self.members[self.splits[:-1]]] = gradient
        else:
            (chosen,) = self.saved
            out[chosen, xp.arange(gradient.shape[1])] = gradient
        return out


class ReadPoints(Function):
    """Rows (P, C) of the sites at points.

    rows : (P, K) int32, the row of each cell of a point, -1: no site
    weights : (P, K) float64, or None: K is 1
    samples : (P,) int64, None: 0
    """

    def __init__(self, sites: ActiveSites, rows: Any, weights: Any, samples: Any):
        super().__init__()
        self.name = "at_points"
        self.sites, self.rows, self.weights, self.samples = sites, rows, weights, samples

    def forward(self, features: Any, background: Any) -> Any:
        features = array_module(features).ascontiguousarray(features)
        self.background_shape: Any = None if background is None else background.shape  # (C,), or (B, C)
        if background is not None:
            background = background.reshape(-1, features.shape[1])
        return launch("interpolate_rows", features, self.rows, self.weights, background, self._samples(background))

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        return (self._to_features(gradient) if self.needs[0] else None,
                self._to_background(gradient) if self.needs[1] else None)

    def _samples(self, background: Any) -> Any:
        """The sample of each point, if backgrounds differ by sample."""
        if background is None or len(background) == 1:
            return None
        xp = array_module(background)
        return xp.zeros(len(self.rows), np.int64) if self.samples is None else self.samples

    def _to_features(self, gradient: Any) -> Any:
        sites = len(self.sites)
        groups = group(self.rows.reshape(-1), sites)
        return launch("group_sum", gradient, groups.members, splits_of(groups, sites), self.weights, False)

    def _to_background(self, gradient: Any) -> Any:
        xp, missing = array_module(gradient), self.rows < 0
        share = missing if self.weights is None else xp.where(missing, self.weights, 0)
        share = share.sum(axis=1, keepdims=True).astype(gradient.dtype)
        taken = xp.where(share > 0, gradient * share, gradient.dtype.type(0))
        if len(self.background_shape) == 1:
            return launch("segment_sum", taken)[0]
        samples = self.background_shape[0]
        if self.samples is None:
            return launch("segment_sum", taken)
        groups = group(self.samples, samples)
        return launch("segment_sum", taken[groups.members], splits_of(groups, samples))


def from_points(points: Any, features: Any, voxel_size: Any, origin: Any = None, spatial_size: Any = None,
                batch: Any = None, reduce: str = "mean", return_index: bool = False, *,
                batch_size: int | None = None) -> Any:
    """A SparseTensor of points: one site for each cell that holds points, with the mean, sum, maximum or first of their
    features; also `SparseTensor.from_points`.  Differentiable in the features.

    Give both `origin` and `spatial_size` if samples must not depend on each other.  Points outside the grid are left
    out; `x.dropped` is their number.

    Parameters
    ----------
    points : (P, D) numbers, D from 1 to 4, in any unit; float32 or float64, others become float64
    features : (P, C) array or Tensor of a dtype that a SparseTensor may have; None: a channel of ones, float32
    voxel_size : side of a cell in the unit of the points, one number or D
    origin : corner of the grid, the outer corner of its first cell: one number or D; default: the smallest
        coordinate along each axis, `points.min(axis=0)`
    spatial_size : (D,) int; default: the smallest grid from `origin` that reaches the last point
    batch : (P,) int, the sample of each point, in any order; default: one sample
    reduce : "mean" or "sum", added in float64 in the order of the rows; "max", channel by channel, the gradient
        goes to the first of equal ones, and NaN is the largest; "first", in the order of the rows
    return_index : also return the row of x at which each point is found
    batch_size : B; default: 1, or the largest number of `batch` plus 1

    Returns
    -------
    SparseTensor, background zeros; with `return_index`, a pair with the index: (P,) int32, -1 for a point left out

    Raises
    ------
    TypeError : points, features or batch of another kind, or on different devices.
    ValueError : shapes or sizes that do not fit, a point that is not finite or whose sample is not below `batch_size`,
        another reduction, points that require a gradient.
    OverflowError : see `ActiveSites`.

    Example
    -------
    >>> points = np.array([[0.1, 0.9], [2.5, 0.2], [0.4, 0.6], [9.0, 9.0]])
    >>> x, row = SparseTensor.from_points(points, np.array([[1.0], [5.0], [2.0], [7.0]]), 1.0, 0.0, (4, 4),
    ...                                   return_index=True)
    >>> x.coordinates.tolist(), x.features.tolist(), row.tolist(), x.dropped
    ([[0, 0, 0], [0, 2, 0]], [[1.5], [5.0]], [0, 1, 0, -1], 1)
    """
    operation = "from_points"
    if reduce not in REDUCTIONS:
        raise ValueError(f"{operation}: reduce is {reduce!r}, expected one of {', '.join(REDUCTIONS)}")
    points = array_of_points(operation, points)
    features = _features_of(operation, features, points)
    samples = samples_of_points(operation, batch, points)
    grid = _grid(operation, points, samples, voxel_size, origin, spatial_size, batch_size)
    groups = group(keys_of_points(operation, points, samples, grid), grid.cells)
    sites, splits, index = _sites(groups, grid)
    x = SparseTensor.from_sites(ReducePoints(groups.members, splits, index, reduce).apply(features), sites)
    x.dropped = int(splits[0])
    return (x, index) if return_index else x


def _features_of(operation: str, features: Any, points: Any) -> Tensor:
    if features is None:
        return Tensor(array_module(points).ones((len(points), 1), np.float32))
    features = features if isinstance(features, Tensor) else Tensor(features)
    if features.ndim != 2 or len(features.array) != len(points) or not features.shape[1]:
        raise ValueError(f"{operation}: features have shape {features.shape}, expected ({len(points)}, C): a row of "
                         "one channel or more for each point")
    check_float_dtype(f"{operation}: features are", features.dtype, features.device)
    check_devices(operation, points, features=features.array)
    return features


def _grid(operation: str, points: Any, samples: Any, voxel_size: Any, origin: Any, spatial_size: Any,
          batch_size: int | None) -> Grid:
    dimension = points.shape[1]
    voxel = voxel_sizes(operation, voxel_size, dimension)
    origin = None if origin is None else numbers_by_axis(operation, "origin", origin, dimension)
    size = None if spatial_size is None else checked_size(spatial_size)
    if size is not None and len(size) != dimension:
        raise ValueError(f"{operation}: spatial_size is {size}, expected {dimension} numbers: the points have "
                         f"{dimension} coordinates")
    if origin is None or size is None:
        origin, needed = smallest_grid(operation, points, origin, voxel)
        size = needed if size is None else size
    if batch_size is None:
        batch_size = 1 if samples is None else max(int(samples.max()) + 1, 1) if len(samples) else 0
    elif samples is None and as_index(batch_size) != 1:
        raise ValueError(f"{operation}: batch_size is {batch_size} and batch is None, expected the sample of each "
                         "point")
    return Grid(origin, voxel, size, checked_batch(batch_size, size))


def _sites(groups: Groups, grid: Grid) -> tuple[ActiveSites, Any, Any]:
    """The sites of cells that hold points; (N+1,) int64, where their members begin; (P,) int32, the site of each point,
    or -1."""
    xp = array_module(groups.keys)
    first = first_of_runs(groups.keys)
    starts = xp.flatnonzero(first)
    splits = xp.concatenate([starts, xp.full(1, len(groups.keys), np.int64)])
    index = xp.empty(len(groups.keys), np.int32)
    index[groups.members] = xp.cumsum(first, dtype=np.int32) - np.int32(1)
    return ActiveSites.from_keys(groups.keys[starts], grid.spatial_size, grid.batch_size), splits, index


def at_points(x: SparseTensor, points: Any, voxel_size: Any, origin: Any, batch: Any = None,
              mode: str = "nearest") -> Tensor:
    """The features of x at points, a Tensor (P, C); also `x.at_points(...)`.  Differentiable in features and
    background, not in the points.

    A cell without a site, or outside the grid, counts as the background; as zeros if there is none.  Sums are in
    float64.  On a GPU the host waits once, for the check of the points.

    Parameters
    ----------
    points : (P, D) numbers, as for `from_points`
    voxel_size : side of a cell in the unit of the points, one number or D
    origin : corner of the grid, one number or D
    batch : (P,) int, the sample of each point; may be left out if x has one sample
    mode : "nearest": the row of the cell that holds the point; "trilinear": between the centres of the 2^D cells around
        it (along each axis the weight of a centre falls from 1 to 0 at the distance of one cell)

    Raises
    ------
    TypeError : x is not a SparseTensor; points or batch of another kind, or on another device.
    ValueError : shapes that do not fit, a point that is not finite or whose sample x does not have, another mode,
        points that require a gradient.

    Example
    -------
    >>> x = SparseTensor(np.array([[2.0], [4.0]]), np.array([[0, 0], [0, 1]]), (8,), batch_size=1)
    >>> points = np.array([[0.25], [0.5], [1.0], [2.0]])
    >>> x.at_points(points, 1.0, 0.0).numpy().ravel(), x.at_points(points, 1.0, 0.0, mode="trilinear").numpy().ravel()
    (array([2., 2., 4., 0.]), array([1.5, 2. , 3. , 2. ]))
    """
    operation = "at_points"
    if not isinstance(x, SparseTensor):
        raise TypeError(f"{operation}: x is {type(x).__name__}, expected a SparseTensor")
    if mode not in MODES:
        raise ValueError(f"{operation}: mode is {mode!r}, expected one of {', '.join(MODES)}")
    points = array_of_points(operation, points)
    if points.shape[1] != x.dimension:
        raise ValueError(f"{operation}: points have shape {points.shape}, expected (P, {x.dimension}) for a grid of "
                         f"{x.spatial_size}")
    samples = samples_of_points(operation, batch, points)
    check_devices(operation, points, x=x.features.array)
    if samples is None and x.batch_size != 1:
        raise ValueError(f"{operation}: batch is None, expected the sample of each point: x has {x.batch_size} samples")
    grid = Grid(numbers_by_axis(operation, "origin", origin, x.dimension),
                voxel_sizes(operation, voxel_size, x.dimension), x.spatial_size, x.batch_size)
    rows, weights = rows_at_points(operation, points, samples, grid, x.sites, mode == "trilinear")
    return ReadPoints(x.sites, rows, weights, samples).apply(x.features, x.background)


SparseTensor.from_points = staticmethod(from_points)  # set here because sparse/ does not import operations
SparseTensor.at_points = at_points
