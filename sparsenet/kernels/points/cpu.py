"""Points: the cells that they lie in, rows read at points, and rows of points reduced by group.

    points (P, D)      p0 p1 p2 p3 ...
    rows (P, K)        of the site in the cell of each point, K = 1; or of the sites in the 2^D cells whose centres are
                       around it: corner k has a bit for each axis, the last axis the lowest, 1: the cell further along
    weights (P, K)     of the corners, products of distances along the axes; a point's sum to 1

    members (M,)       p7 p2 | p0 p1 p5 |  | p3        points, or entries of (P, K), sorted by group; the first ones
    splits (S+1,)            2          5  5    6      may be in no group
    result (S, C)            g0          0  g2

Reading copies or adds the rows that `rows` names; reducing does the reverse, group by group: a thread has whole
groups, and adds the members in their order, in float64.  So the bits depend on the members of a group alone.

Limited by memory: rows of the other side are read in any order, so each is prefetched some points ahead.  A key is
looked up in the hash table only if it is neither that of the last site found nor that of the next: points in the
order of the sites need no table, and two corners that differ along the last axis need it once if the first is a site.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparsenet.kernels.cpu.lanes import prefetch
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.probing import home_of, prefetch_slot, row_from
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.points import sorting  # noqa: F401  (registers its kernel)
from sparsenet.kernels.points.contract import (
    GROUP_MAX,
    GROUP_SUM,
    INTERPOLATE_ROWS,
    NO_SAMPLE,
    NOT_FINITE,
    OUTSIDE,
    POINT_KEYS,
    POINT_ROWS,
)

_POINTS = 1 << 14  # of a block
_BLOCK = 1 << 16  # numbers of a block
_AHEAD = 16  # points: how early a row is prefetched
_LINE = 16  # numbers that are prefetched at once
_TOGETHER = 64  # keys whose slots in the table are prefetched before the first is looked up


@POINT_KEYS.implementation("cpu")
def _keys_cpu(points, samples, origin, voxel_size, spatial_size, batch_size):
    """(P,) int64"""
    keys = np.empty(len(points), np.int64)
    places = _places(points, samples, origin, voxel_size, spatial_size, batch_size)
    run_rows(lambda start, stop: _find_keys(places, start, stop, keys), len(points), _POINTS)
    return keys


@POINT_ROWS.implementation("cpu")
def _rows_cpu(points, samples, origin, voxel_size, spatial_size, batch_size, keys, table_keys, table_rows, trilinear):
    """((P, K) int32, (P, K) float64 or None)"""
    corners = 1 << len(origin) if trilinear else 1
    rows = np.empty((len(points), corners), np.int32)
    places = _places(points, samples, origin, voxel_size, spatial_size, batch_size)
    sites = _Sites(keys, table_keys, table_rows)
    if not trilinear:
        run_rows(lambda start, stop: _find_rows(places, sites, start, stop, rows), len(points), _POINTS)
        return rows, None
    weights = np.empty(rows.shape)
    run_rows(lambda start, stop: _find_corners(places, sites, start, stop, rows, weights), len(points), _POINTS)
    return rows, weights


class _Places(NamedTuple):
    """Points (P, D), their samples (P,), or (0,) if all are of sample 0, and the grid that they lie in."""

    points: np.ndarray
    samples: np.ndarray
    origin: tuple[float, ...]
    voxel_size: tuple[float, ...]
    sides: tuple[int, ...]
    batch_size: int


class _Sites(NamedTuple):
    """The keys of the sites (N,), in order, and the hash table of them."""

    keys: np.ndarray
    table_keys: np.ndarray
    table_rows: np.ndarray


def _places(points, samples, origin, voxel_size, spatial_size, batch_size):
    samples = np.zeros(0, np.int64) if samples is None else samples
    return _Places(points, samples, tuple(origin.tolist()), tuple(voxel_size.tolist()), spatial_size, batch_size)


@INTERPOLATE_ROWS.implementation("cpu")
def _interpolate_cpu(features, rows, weights, background, samples):
    """(P, C)"""
    out = np.empty((len(rows), features.shape[1]), features.dtype)
    background = np.zeros((1, features.shape[1]), features.dtype) if background is None else background
    samples = np.zeros(0, np.int64) if samples is None or len(background) == 1 else samples
    weights = np.zeros((0, 0)) if weights is None else weights
    run_rows(lambda start, stop: _interpolate(features, rows, weights, background, samples, start, stop, out),
             len(rows), _step(features.shape[1]))
    return out


@GROUP_SUM.implementation("cpu")
def _group_sum_cpu(values, members, splits, weights, mean):
    """(S, C)"""
    out = np.empty((len(splits) - 1, values.shape[1]), values.dtype)
    corners, weights = (1, np.zeros(0)) if weights is None else (weights.shape[1], weights.reshape(-1))
    run_rows(lambda start, stop: _sum_groups(values, members, splits, weights, corners, mean, start, stop, out),
             len(out), _step(values.shape[1]))
    return out


@GROUP_MAX.implementation("cpu")
def _group_max_cpu(values, members, splits):
    """((S, C), (S, C) int64)"""
    out = np.empty((len(splits) - 1, values.shape[1]), values.dtype)
    chosen = np.empty(out.shape, np.int64)
    run_rows(lambda start, stop: _max_groups(values, members, splits, start, stop, out, chosen), len(out),
             _step(values.shape[1]))
    return out, chosen


def _step(channels: int) -> int:
    """Rows of a block."""
    return max(1, _BLOCK // max(1, channels))


@compiled(inline="always")
def _key_at(points, p, sample, origin, voxel_size, sides, batch_size):
    """The key of the cell of point p, or what is wrong.  Tuples have a known length, so the loop is unrolled."""
    key, inside = sample, (sample >= 0) & (sample < batch_size)
    for axis in range(len(sides)):
        at = (points[p, axis] - origin[axis]) / voxel_size[axis]
        here = (at >= 0.0) & (at < sides[axis])
        inside &= here
        key = key * sides[axis] + np.int64(at if here else 0.0)  # cut off: at is not negative
    return key if inside else _fault_at(points, p, sample, origin, voxel_size, batch_size, 0.0)


@compiled
def _fault_at(points, p, sample, origin, voxel_size, batch_size, shift):
    if not 0 <= sample < batch_size:
        return NO_SAMPLE
    for axis in range(len(origin)):
        if not abs((points[p, axis] - origin[axis]) / voxel_size[axis] - shift) < np.inf:
            return NOT_FINITE
    return OUTSIDE


@compiled
def _find_keys(places, start, stop, keys):
    points, samples, origin, voxel_size, sides, batch_size = places
    for p in range(start, stop):
        sample = samples[p] if samples.size else 0
        keys[p] = _key_at(points, p, sample, origin, voxel_size, sides, batch_size)


@compiled
def _find_rows(places, sites, start, stop, rows):
    points, samples, origin, voxel_size, sides, batch_size = places
    keys, table_keys, table_rows = sites
    wanted, missed = np.empty(_TOGETHER, np.int64), np.empty(_TOGETHER, np.int64)
    mask, last, at = np.uint64(table_keys.size - 1), keys.size - 1, 0
    for first in range(start, stop, _TOGETHER):
        misses = 0
        for p in range(first, min(first + _TOGETHER, stop)):
            sample = samples[p] if samples.size else 0
            key = _key_at(points, p, sample, origin, voxel_size, sides, batch_size)
            if at < last and keys[at + 1] == key:
                at += 1
            if key < 0:
                rows[p, 0] = key
            elif at <= last and keys[at] == key:
                rows[p, 0] = at
            else:
                wanted[misses], missed[misses] = key, p
                misses += 1
                prefetch_slot(table_keys, table_rows, home_of(key, mask))
        for j in range(misses):
            row = row_from(table_keys, table_rows, wanted[j], home_of(wanted[j], mask))
            rows[missed[j], 0] = row
            at = max(row, at)


@compiled
def _find_corners(places, sites, start, stop, rows, weights):
    points, samples, origin, voxel_size, sides, batch_size = places
    keys, table_keys, table_rows = sites
    dimension, corners, mask = len(sides), rows.shape[1], np.uint64(table_keys.size - 1)
    together = max(1, _TOGETHER // corners)
    wanted = np.empty((together, corners), np.int64)
    low, beyond = np.empty(dimension), np.empty(dimension)
    for first in range(start, stop, together):
        end = min(first + together, stop)
        for p in range(first, end):
            sample = samples[p] if samples.size else 0
            fault = _fault_at(points, p, sample, origin, voxel_size, batch_size, 0.5)
            for axis in range(dimension):
                at = (points[p, axis] - origin[axis]) / voxel_size[axis] - 0.5
                low[axis] = np.floor(at)
                beyond[axis] = at - low[axis]
            for k in range(corners):
                key, weight, inside = sample, 1.0, fault == OUTSIDE
                for axis in range(dimension):
                    far = (k >> (dimension - 1 - axis)) & 1
                    cell = low[axis] + far
                    inside &= (cell >= 0.0) & (cell < sides[axis])
                    key = key * sides[axis] + np.int64(cell if inside else 0.0)
                    weight = weight * (beyond[axis] if far else 1.0 - beyond[axis])
                wanted[p - first, k] = key if inside else fault
                weights[p, k] = weight
                if not k & 1:
                    prefetch_slot(table_keys, table_rows, home_of(key, mask))
        for p in range(first, end):
            for k in range(corners):
                key, row = wanted[p - first, k], rows[p, k - 1] if k & 1 else -1
                if key < 0:
                    rows[p, k] = key
                elif row >= 0:  # the next key is that of the next site, or of none
                    rows[p, k] = row + 1 if row + 1 < keys.size and keys[row + 1] == key else -1
                else:
                    rows[p, k] = row_from(table_keys, table_rows, key, home_of(key, mask))


@compiled
def _interpolate(features, rows, weights, background, samples, start, stop, out):
    """No `weights`: the one row of a point is copied.  No `samples`: all have the first background."""
    channels, corners = features.shape[1], rows.shape[1]
    total = np.zeros(channels)
    for p in range(start, stop):
        ahead = min(p + _AHEAD, stop - 1)
        for k in range(corners):
            if rows[ahead, k] >= 0:
                for c in range(0, channels, _LINE):
                    prefetch(features, (rows[ahead, k], c), _LINE)
        below = samples[p] if samples.size else 0
        if not weights.size:
            row = rows[p, 0]
            if row >= 0:
                for c in range(channels):
                    out[p, c] = features[row, c]
            else:
                for c in range(channels):
                    out[p, c] = background[below, c]
            continue
        for c in range(channels):
            total[c] = 0
        for k in range(corners):
            row, weight = rows[p, k], weights[p, k]
            if row >= 0:
                for c in range(channels):
                    total[c] += weight * features[row, c]
            else:
                for c in range(channels):
                    total[c] += weight * background[below, c]
        for c in range(channels):
            out[p, c] = total[c]


@compiled
def _sum_groups(values, members, splits, weights, corners, mean, start, stop, out):
    """No `weights`: each is 1."""
    channels = values.shape[1]
    total = np.zeros(channels)
    last = splits[stop] - 1
    for s in range(start, stop):
        for c in range(channels):
            total[c] = 0
        for i in range(splits[s], splits[s + 1]):
            ahead = members[min(i + _AHEAD, last)]
            if corners > 1:
                ahead //= corners
            for c in range(0, channels, _LINE):
                prefetch(values, (ahead, c), _LINE)
            row = members[i] // corners if corners > 1 else members[i]
            if weights.size:
                weight = weights[members[i]]
                for c in range(channels):
                    total[c] += weight * values[row, c]
            else:
                for c in range(channels):
                    total[c] += values[row, c]
        size = splits[s + 1] - splits[s]
        divisor = np.float64(size) if mean and size > 1 else 1.0
        for c in range(channels):
            out[s, c] = total[c] / divisor


@compiled
def _max_groups(values, members, splits, start, stop, out, chosen):
    """Without branches on values: each channel is compared and chosen beside the others."""
    channels = values.shape[1]
    best, which = np.empty(channels, values.dtype), np.empty(channels, np.int64)
    last = splits[stop] - 1
    for s in range(start, stop):
        for c in range(channels):
            best[c] = -np.inf
            which[c] = -1
        for i in range(splits[s], splits[s + 1]):
            ahead = members[min(i + _AHEAD, last)]
            for c in range(0, channels, _LINE):
                prefetch(values, (ahead, c), _LINE)
            row, first = members[i], i == splits[s]
            for c in range(channels):
                value = values[row, c]
                wins = first | (value > best[c]) | ((value != value) & (best[c] == best[c]))
                best[c] = value if wins else best[c]
                which[c] = row if wins else which[c]
        for c in range(channels):
            out[s, c] = best[c]
            chosen[s, c] = which[c]
