"""Points and the cells that they lie in."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from sparsenet.kernels.points.contract import NO_SAMPLE, NOT_FINITE, OUTSIDE
from sparsenet.kernels.rulebook.reference import keys_of
from sparsenet.kernels.table import formula_of


@formula_of("point_keys")
def point_keys(points, samples, origin, voxel_size, spatial_size, batch_size):
    """(P,) int64 keys of the cells; OUTSIDE, NOT_FINITE or NO_SAMPLE in place of one that does not exist."""
    at = (points - origin) / voxel_size
    return keys_around(at, np.zeros((1, len(origin))), samples, spatial_size, batch_size)[:, 0]


def keys_around(at, corners, samples, spatial_size, batch_size) -> np.ndarray:
    """(P, K) int64 keys of the cells `corners` (K, D) further than those at (P, D)."""
    cells = np.floor(at)[:, None] + corners
    inside = ((cells >= 0) & (cells < spatial_size)).all(axis=2)
    samples = np.zeros(len(at), np.int64) if samples is None else samples
    keys = np.full(inside.shape, OUTSIDE, np.int64)
    keys[inside] = keys_of(samples[np.nonzero(inside)[0]], cells[inside].astype(np.int64), spatial_size)
    keys[~np.isfinite(at).all(axis=1)] = NOT_FINITE
    keys[(samples < 0) | (samples >= batch_size)] = NO_SAMPLE
    return keys


@formula_of("point_rows")
def point_rows(points, samples, origin, voxel_size, spatial_size, batch_size, keys, table_keys, table_rows, trilinear):
    """(P, K) int32 rows of the sites in K = 1 or 2^D cells, -1, NOT_FINITE or NO_SAMPLE; trilinear, their weights."""
    at = (points - origin) / voxel_size - (0.5 if trilinear else 0)
    corners = np.array(list(product(range(1 + trilinear), repeat=len(origin))))
    wanted = keys_around(at, corners, samples, spatial_size, batch_size)
    rows = np.searchsorted(keys, wanted)
    rows[wanted != np.append(keys, OUTSIDE)[rows]] = OUTSIDE
    beyond = (at - np.floor(at))[:, None]
    return (np.where(wanted < OUTSIDE, wanted, rows).astype(np.int32),
            np.where(corners, beyond, 1 - beyond).prod(axis=2) if trilinear else None)


@formula_of("sort_keys")
def sort_keys(keys, limit):
    """(M,) int64 keys in order, and the entries (M,) int64 that they come from."""
    members = np.argsort(keys, kind="stable")
    return keys[members], members


@formula_of("interpolate_rows")
def interpolate_rows(features, rows, weights, background, samples):
    """(P, C) sum over k of weights[p, k] features[rows[p, k]], the background, or zeros, where the row is -1."""
    background = np.zeros((1, features.shape[1]), features.dtype) if background is None else background
    own = background[samples if len(background) != 1 else np.zeros(len(rows), np.int64)]
    taken = np.repeat(own[:, None], rows.shape[1], axis=1)
    taken[rows >= 0] = features[rows[rows >= 0]]
    return taken[:, 0] if weights is None else (taken * weights[..., None]).sum(axis=1).astype(features.dtype)


@formula_of("group_sum")
def group_sum(values, members, splits, weights, mean):
    """(S, C) sum over the members m of a group of weights[m] values[m // K], in float64; if mean, by their number."""
    members, sizes = members[splits[0] : splits[-1]], np.diff(splits)
    corners, weights = (1, np.ones(len(values))) if weights is None else (weights.shape[1], weights.ravel())
    total = np.zeros((len(sizes), values.shape[1]))
    np.add.at(total, np.repeat(np.arange(len(sizes)), sizes), values[members // corners] * weights[members][:, None])
    return (total / np.maximum(sizes, 1)[:, None] if mean else total).astype(values.dtype)


@formula_of("group_max")
def group_max(values, members, splits):
    """(S, C) largest of the members' values, or NaN, and the first member that has it; -inf and -1 if there is none."""
    out = np.full((len(splits) - 1, values.shape[1]), -np.inf, values.dtype)
    chosen = np.full(out.shape, -1, np.int64)
    for s, (start, stop) in enumerate(pairwise(splits.tolist())):
        if start < stop:
            chosen[s] = members[start + values[members[start:stop]].argmax(axis=0)]
            out[s] = values[chosen[s], np.arange(values.shape[1])]
    return out, chosen
