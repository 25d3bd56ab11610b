"""Kernels of points on the last rows of arrays of more than 2^31 elements, whose other rows do not exist."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host.test_last_rows import FAR, SCALARS, at, each_distance, numbered, run  # noqa: F401

from sparsenet.kernels.cuda.source import THREADS
from sparsenet.kernels.points import cuda as points

COUNT, CHANNELS, CORNERS, SITES = 70, 16, 8, 50
LANES, ROWS = points._shape(COUNT, CHANNELS)[1]


def test_point_rows(run, rng):  # noqa: F811
    """And keys, whose rows of three numbers are as far."""
    before = FAR * 4
    kernel = points.SOURCE.kernel
    where = rng.integers(0, 9, (COUNT, 3)).astype("f4") + np.float32(0.5)
    given = at(where, before), None, np.zeros(3), np.ones(3), 9, 9, 9, 1, 3, 1
    keys, rows = np.zeros(COUNT, np.int64), np.zeros((COUNT, CORNERS), np.int32)
    weights, blocks = np.zeros((COUNT, CORNERS)), -(-(before + COUNT) // THREADS)
    run(kernel("point_keys", **SCALARS), blocks, THREADS, before // THREADS, *given, before + COUNT, at(keys, before))
    np.testing.assert_array_equal(keys, where.astype(int) @ [81, 9, 1])
    table = np.full(8, -1, np.int64), np.zeros(8, np.int32)
    blocks = -(-(before + COUNT) * CORNERS // THREADS)
    run(kernel("point_rows", **SCALARS), blocks, THREADS, before * CORNERS // THREADS, *given, *table, 7, CORNERS,
        before + COUNT, at(rows, before), at(weights, before))
    assert (rows == -1).all()
    np.testing.assert_array_equal(weights, np.tile([1.0] + [0.0] * 7, (COUNT, 1)))


@each_distance
@pytest.mark.parametrize("corners", [1, CORNERS])
def test_interpolate_rows(run, rng, before, corners):  # noqa: F811
    features, rows = rng.integers(-5, 5, (SITES, CHANNELS)).astype("f4"), rng.integers(-1, SITES, (COUNT, corners))
    weights = rng.integers(0, 3, (COUNT, corners)).astype(np.float64)
    out = np.zeros((COUNT, CHANNELS), "f4")
    run(points.SOURCE.kernel("interpolate_rows", **SCALARS), -(-(before + COUNT) // ROWS), (LANES, ROWS),
        before // ROWS, at(features, before), numbered(rows, before), at(weights, before) if corners > 1 else None,
        None, None, before + COUNT, corners, CHANNELS, at(out, before))
    taken = np.where(rows[..., None] < 0, 0, features[rows])
    np.testing.assert_array_equal(out, taken[:, 0] if corners == 1 else (taken * weights[..., None]).sum(axis=1))


@each_distance
def test_groups(run, rng, before):  # noqa: F811
    """As many groups and members as rows: one each, in another order."""
    values, order = rng.integers(-5, 5, (COUNT, CHANNELS)).astype("f4"), rng.permutation(COUNT)
    members, splits = at((order + before).astype(np.int64), before), at(before + np.arange(COUNT + 1), before)
    out, chosen = np.zeros((2, COUNT, CHANNELS), "f4"), np.zeros((COUNT, CHANNELS), np.int64)
    shape = -(-(before + COUNT) // ROWS), (LANES, ROWS), before // ROWS
    given = at(values, before), members, splits
    run(points.SOURCE.kernel("group_sum", **SCALARS), *shape, *given, None, 1, False, before + COUNT, CHANNELS,
        at(out[0], before))
    run(points.SOURCE.kernel("group_max", **SCALARS), *shape, *given, before + COUNT, CHANNELS, -np.inf,
        at(out[1], before), at(chosen, before))
    np.testing.assert_array_equal(out[0], values[order])
    np.testing.assert_array_equal(out[1], values[order])
    np.testing.assert_array_equal(chosen, np.repeat(before + order[:, None], CHANNELS, axis=1))
