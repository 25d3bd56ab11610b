"""Points on a GPU, by points.cu; keys are sorted by CuPy."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.points.contract import GROUP_MAX, GROUP_SUM, INTERPOLATE_ROWS, POINT_KEYS, POINT_ROWS, SORT_KEYS

_MAX_LANES = 32
_MAX_DIMENSION = 4  # as in points.cu
SOURCE = CudaSource("points/points", variants=SCALARS.values())


@POINT_KEYS.implementation("cuda")
def _keys_cuda(points, samples, origin, voxel_size, spatial_size, batch_size):
    count, dimension = points.shape
    keys = array_module(points).empty(count, np.int64)
    SOURCE.kernel("point_keys", **scalars_of(points))(
        blocks_for(count), THREADS, points, samples, origin, voxel_size, *_four(spatial_size), dimension, batch_size,
        count, keys)
    return keys


@POINT_ROWS.implementation("cuda")
def _rows_cuda(points, samples, origin, voxel_size, spatial_size, batch_size, keys, table_keys, table_rows, trilinear):
    xp, (count, dimension) = array_module(points), points.shape
    corners = 1 << dimension if trilinear else 1
    rows = xp.empty((count, corners), np.int32)
    weights = xp.empty((count, corners), np.float64) if trilinear else None
    SOURCE.kernel("point_rows", **scalars_of(points))(
        blocks_for(rows.size), THREADS, points, samples, origin, voxel_size, *_four(spatial_size), dimension,
        batch_size, table_keys, table_rows, table_keys.size - 1, corners, count, rows, weights)
    return rows, weights


@SORT_KEYS.implementation("cuda")
def _sort_cuda(keys, limit):
    members = array_module(keys).argsort(keys, kind="stable")  # by CuPy's own kernels
    return keys[members], members


@INTERPOLATE_ROWS.implementation("cuda")
def _interpolate_cuda(features, rows, weights, background, samples):
    (count, corners), channels = rows.shape, features.shape[1]
    out = array_module(features).empty((count, channels), features.dtype)
    samples = None if background is None or len(background) == 1 else samples
    SOURCE.kernel("interpolate_rows", **scalars_of(features))(
        *_shape(count, channels), features, rows, weights, background, samples, count, corners, channels, out)
    return out


@GROUP_SUM.implementation("cuda")
def _group_sum_cuda(values, members, splits, weights, mean):
    groups, channels = len(splits) - 1, values.shape[1]
    out = array_module(values).empty((groups, channels), values.dtype)
    SOURCE.kernel("group_sum", **scalars_of(values))(
        *_shape(groups, channels), values, members, splits, weights, 1 if weights is None else weights.shape[1], mean,
        groups, channels, out)
    return out


@GROUP_MAX.implementation("cuda")
def _group_max_cuda(values, members, splits):
    xp, groups, channels = array_module(values), len(splits) - 1, values.shape[1]
    out, chosen = xp.empty((groups, channels), values.dtype), xp.empty((groups, channels), np.int64)
    SOURCE.kernel("group_max", **scalars_of(values))(
        *_shape(groups, channels), values, members, splits, groups, channels, -np.inf, out, chosen)
    return out, chosen


def _four(sides: tuple[int, ...]) -> tuple[int, ...]:
    return *sides, *(1,) * (_MAX_DIMENSION - len(sides))


def _shape(rows: int, channels: int) -> tuple[int, tuple[int, int]]:
    """The grid and the block for rows of so many channels."""
    lanes = min(_MAX_LANES, 1 << max(channels - 1, 0).bit_length())
    return blocks_for(rows, THREADS // lanes) if channels else 0, (lanes, THREADS // lanes)
