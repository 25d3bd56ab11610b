"""Points and the grid that they lie in: their cells, and points grouped by cell.

A point p lies in the cell floor((p - origin) / voxel_size), computed in float64.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import array_module, device_of, to_device
from sparsenet.kernels import launch
from sparsenet.kernels.fetch import fetch
from sparsenet.kernels.points import NO_SAMPLE, NOT_FINITE
from sparsenet.sparse.geometry import MAX_DIMENSION

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites


class Grid(NamedTuple):
    """Grids of cells in space.

    origin, voxel_size : (D,) float64, on the host
    spatial_size : (D,) int;  batch_size : int, the number of grids
    """

    origin: np.ndarray
    voxel_size: np.ndarray
    spatial_size: tuple[int, ...]
    batch_size: int

    @property
    def cells(self) -> int:
        """The number of cells of all grids."""
        return self.batch_size * prod(self.spatial_size)


class Groups(NamedTuple):
    """Entries of an array grouped by equal keys; negative keys are in no group.

    keys : (M,) int64, sorted
    members : (M,) int64; entry members[i] has keys[i]; of equal keys the entries rise
    """

    keys: Any
    members: Any


def array_of_points(operation: str, points: Any) -> Any:
    """(P, D) float32 or float64, C-contiguous.

    Raises
    ------
    TypeError : not numbers.
    ValueError : not of that shape, D from 1 to 4; a Tensor that requires a gradient.
    """
    if isinstance(points, Tensor):
        if points.requires_grad:
            raise ValueError(f"{operation}: points require a gradient, which stops at the choice of cells: pass "
                             "points.detach()")
        points = points.array
    if not hasattr(points, "dtype"):
        points = np.asarray(points)
    if points.ndim != 2 or not 1 <= points.shape[1] <= MAX_DIMENSION:
        raise ValueError(f"{operation}: points have shape {points.shape}, expected (P, D): a row of 1 to "
                         f"{MAX_DIMENSION} coordinates for each point")
    if points.dtype.kind not in "iuf":
        raise TypeError(f"{operation}: points are {points.dtype}, expected real numbers")
    kept = points.dtype in (np.float32, np.float64)
    return array_module(points).ascontiguousarray(points, dtype=points.dtype if kept else np.float64)


def numbers_by_axis(operation: str, name: str, value: Any, dimension: int) -> np.ndarray:
    """(D,) float64 on the host of one number for all axes or one for each.  Raises ValueError unless all are finite."""
    value = value.array if isinstance(value, Tensor) else value
    value = to_device(value, "cpu") if hasattr(value, "dtype") else value
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros((0, 0))
    if numbers.shape not in ((), (1,), (dimension,)) or not np.isfinite(numbers).all():
        raise ValueError(f"{operation}: {name} is {value!r}, expected a finite number, or {dimension} of them: one for "
                         "each axis")
    return np.ascontiguousarray(np.broadcast_to(numbers, (dimension,)))


def voxel_sizes(operation: str, voxel_size: Any, dimension: int) -> np.ndarray:
    """(D,) float64 on the host.  Raises ValueError unless they are finite numbers above 0."""
    sizes = numbers_by_axis(operation, "voxel_size", voxel_size, dimension)
    if not (sizes > 0).all():
        raise ValueError(f"{operation}: voxel_size is {voxel_size!r}, expected a number above 0: the side of a cell, "
                         "in the unit of the points")
    return sizes


def samples_of_points(operation: str, batch: Any, points: Any) -> Any:
    """(P,) int64, or None.  Raises TypeError or ValueError unless `batch` is None or has an integer for each point."""
    if batch is None:
        return None
    xp = array_module(points)
    batch = batch.array if isinstance(batch, Tensor) else batch
    if not hasattr(batch, "dtype"):
        batch = np.asarray(batch)
        batch = xp.asarray(batch if batch.size else batch.astype(np.int64))
    if batch.dtype.kind not in "iu":
        raise TypeError(f"{operation}: batch is {batch.dtype}, expected integers: the number of the sample of each "
                        "point")
    if batch.shape != (len(points),):
        raise ValueError(f"{operation}: batch has shape {batch.shape}, expected ({len(points)},): the number of the "
                         "sample of each point")
    check_devices(operation, points, batch=batch)
    return xp.ascontiguousarray(batch, dtype=np.int64)


def check_devices(operation: str, points: Any, **others: Any) -> None:
    """Raise TypeError unless the other arrays, by name, are on the device of the points."""
    here = device_of(points)
    for name, array in others.items():
        if device_of(array) != here:
            raise TypeError(f"{operation}: points are on {here}, {name} on {device_of(array)}: move one of them with "
                            ".to(device)")


def smallest_grid(operation: str, points: Any, origin: np.ndarray | None,
                  voxel_size: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """The origin, if not given the smallest coordinate along each axis, and the sides of the grid that reaches the
    last point; on a GPU the host waits for both.

    Raises ValueError if a coordinate is not finite, or the grid has sides beyond int32.
    """
    dimension = len(voxel_size)
    if not len(points):
        return np.zeros(dimension) if origin is None else origin, (1,) * dimension
    xp = array_module(points)
    low, high = to_device(xp.stack([points.min(axis=0), points.max(axis=0)]), "cpu").astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError(not_finite(operation, points))
    origin = low if origin is None else origin
    cells = np.floor((high - origin) / voxel_size)
    if not (cells < 2**31 - 1).all():
        raise ValueError(f"{operation}: the points reach {cells.max():.3g} cells along an axis, at most {2**31 - 1} "
                         "fit a grid: take a larger voxel_size")
    return origin, tuple(int(cell) + 1 for cell in np.maximum(cells, 0))


def not_finite(operation: str, points: Any) -> str:
    """The message for points of which one is not finite, or too far away for a cell."""
    rows = np.flatnonzero(~np.isfinite(to_device(points, "cpu")).all(axis=1))
    if not len(rows):
        return f"{operation}: a point is infinitely many cells from the origin: take a larger voxel_size"
    point = to_device(points[int(rows[0])], "cpu").tolist()
    return f"{operation}: row {rows[0]} of points is {point}, expected finite numbers: remove such points"


def keys_of_points(operation: str, points: Any, samples: Any, grid: Grid) -> Any:
    """(P,) int64: the key of each point's cell, -1 outside the grid.

    Raises ValueError for a point that is not finite, or whose sample is not below the batch size; on a GPU the host
    waits for this.
    """
    keys = launch("point_keys", points, samples, *_on_device(grid, points))
    _check_found(operation, points, samples, grid, keys)
    return keys


def rows_at_points(operation: str, points: Any, samples: Any, grid: Grid, sites: ActiveSites, trilinear: bool
                   ) -> tuple[Any, Any]:
    """(P, K) int32: the row of the site in each point's cell, K = 1, or in the 2^D cells around it, and then their
    weights (P, K) float64; -1 if there is none.  Raises ValueError as `keys_of_points` does."""
    sites.hash_table.check()
    rows, weights = launch("point_rows", points, samples, *_on_device(grid, points), sites.keys, *sites.hash_table,
                           trilinear)
    _check_found(operation, points, samples, grid, rows[:, 0])
    return rows, weights


def _on_device(grid: Grid, points: Any) -> tuple[Any, ...]:
    """The grid as kernels take it."""
    xp = array_module(points)
    return xp.asarray(grid.origin), xp.asarray(grid.voxel_size), grid.spatial_size, grid.batch_size


def _check_found(operation: str, points: Any, samples: Any, grid: Grid, found: Any) -> None:
    """found : (P,) keys or rows of a kernel"""
    (lowest,) = fetch(found.min(keepdims=True)) if len(found) else (0,)
    if lowest == NO_SAMPLE:
        row = int(array_module(found).flatnonzero(found == NO_SAMPLE)[0])
        sample = 0 if samples is None else int(samples[row])
        raise ValueError(f"{operation}: point {row} is in sample {sample}, expected 0 to {grid.batch_size - 1}")
    if lowest == NOT_FINITE:
        raise ValueError(not_finite(operation, points))


def group(keys: Any, limit: int) -> Groups:
    """Entries of keys (M,) integer, from -1 on, grouped by key.

    limit : no key is larger
    """
    return Groups(*launch("sort_keys", keys.astype(np.int64, copy=False), limit))


def splits_of(groups: Groups, count: int) -> Any:
    """(count + 1,) int64: the members of key k are splits[k] to splits[k + 1]."""
    xp = array_module(groups.keys)
    return xp.searchsorted(groups.keys, xp.arange(count + 1, dtype=np.int64))


def first_of_runs(keys: Any) -> Any:
    """(M,) bool: where the first of each run of equal keys stands that are not negative; keys are sorted."""
    xp = array_module(keys)
    first = xp.empty(len(keys), bool)
    first[:1] = True
    first[1:] = keys[1:] != keys[:-1]
    first &= keys >= 0
    return first
