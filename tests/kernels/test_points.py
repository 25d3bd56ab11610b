"""Cells of points, rows read at points, and rows of points reduced by group, each against a plain loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage, in_half, precise

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.points import NO_SAMPLE, NOT_FINITE, OUTSIDE

SIDES = {1: (7,), 2: (4, 3), 3: (4, 3, 5), 4: (2, 3, 2, 3)}
BATCH = 3


def grid(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Origin and sides of voxels that no power of two divides."""
    return np.array([-0.3, 0.1, 7.0, 0.0])[:dimension], np.array([0.1, 0.3, 1.7, 1.0])[:dimension]


def key_of(sample: int, cell: list[int], sides: tuple[int, ...]) -> int:
    if not all(0 <= at < side for at, side in zip(cell, sides, strict=True)):
        return OUTSIDE
    for at, side in zip(cell, sides, strict=True):
        sample = sample * side + at
    return sample


def places(points: np.ndarray, dimension: int) -> list[list[float]]:
    """In cells from the origin, in Python's floats."""
    origin, voxel = grid(dimension)
    return [[(float(p) - o) / v for p, o, v in zip(point, origin.tolist(), voxel.tolist(), strict=True)]
            for point in points]


def some_points(rng: np.random.Generator, count: int, dimension: int, dtype: type) -> np.ndarray:
    """Within the grid and around it, some of them on borders of cells."""
    origin, voxel = grid(dimension)
    at = rng.uniform(-1, np.array(SIDES[dimension]) + 1, (count, dimension))
    at[::5] = np.round(at[::5])
    return (origin + at * voxel).astype(dtype)


def tables(rng, sides: tuple[int, ...]) -> tuple[np.ndarray, tuple]:
    """Rows of all keys, -1 for a third of them; and what the kernel takes: the keys of the others, and their table."""
    cells = BATCH * math.prod(sides)
    keys = np.sort(rng.permutation(cells)[: 2 * cells // 3])
    rows = np.full(cells + 1, -1)  # the last one is that of OUTSIDE
    rows[keys] = np.arange(len(keys))
    return rows, (keys, *kernels.launch("hash_insert", keys, True))


@pytest.mark.parametrize(("dimension", "dtype"), [(1, "f8"), (2, "f8"), (3, "f4"), (3, "f8"), (4, "f8")])
@pytest.mark.parametrize("with_samples", [True, False])
def test_the_cell_of_each_point(launch, dimension, dtype, with_samples, rng):
    points, samples = some_points(rng, 150, dimension, dtype), rng.integers(0, BATCH, 150) if with_samples else None
    given = points, samples, *grid(dimension), SIDES[dimension], BATCH
    expected = [key_of(int(samples[p]) if with_samples else 0, [math.floor(x) for x in at], SIDES[dimension])
                for p, at in enumerate(places(points, dimension))]
    assert launch("point_keys", *given).tolist() == expected
    assert len(set(expected)) > 5
    rows, table = tables(rng, SIDES[dimension])
    found, weights = launch("point_rows", *given, *table, False)
    assert weights is None and found.dtype == np.int32 and found.tolist() == rows[expected][:, None].tolist()
    order = np.argsort(expected)
    given = points[order], samples[order] if with_samples else None, *given[2:]
    assert launch("point_rows", *given, *table, False)[0][:, 0].tolist() == rows[expected][order].tolist()


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_the_cells_around_each_point(launch, dimension, rng):
    points, samples = some_points(rng, 30, dimension, np.float64), rng.integers(0, BATCH, 30)
    rows, table = tables(rng, SIDES[dimension])
    found, weights = launch("point_rows", points, samples, *grid(dimension), SIDES[dimension], BATCH, *table, True)
    assert found.shape == weights.shape == (30, 2**dimension) and weights.dtype == np.float64
    for p, at in enumerate(places(points, dimension)):
        low = [math.floor(x - 0.5) for x in at]
        for k, corner in enumerate(itertools.product((0, 1), repeat=dimension)):
            cell = [a + b for a, b in zip(low, corner, strict=True)]
            assert found[p, k] == rows[key_of(int(samples[p]), cell, SIDES[dimension])]
            weight = math.prod(1 - abs(x - 0.5 - c) for x, c in zip(at, cell, strict=True))
            assert weights[p, k] == pytest.approx(weight, rel=1e-12, abs=1e-12)


def test_what_has_no_cell_says_why(launch):
    points = np.array([[np.nan, 0.5], [0.5, np.inf], [0.5, 0.5], [0.5, 0.5], [0.5, -1e305], [0.5, 1e-310], [1e10, 0]])
    samples = np.array([0, 0, -1, 2, 0, 1, 2**62])
    given = points, samples, np.zeros(2), np.array([1.0, 1e-5]), (3, 2**31 - 1), 2
    keys = np.array([3 * (2**31 - 1)])
    table = keys, *kernels.launch("hash_insert", keys, True)
    faults = [NOT_FINITE, NOT_FINITE, NO_SAMPLE, NO_SAMPLE, NOT_FINITE]  # -1e310 cells are infinite
    assert launch("point_keys", *given).tolist() == [*faults, 3 * (2**31 - 1), NO_SAMPLE]
    for trilinear in (False, True):
        rows, _ = launch("point_rows", *given, *table, trilinear)
        corners = rows.shape[1]
        assert rows[:5].tolist() == [[fault] * corners for fault in faults] and (rows[6] == NO_SAMPLE).all()
        assert rows[5].tolist() == ([OUTSIDE, 0, OUTSIDE, OUTSIDE] if trilinear else [0])


def test_keys_of_64_bits(launch):
    sides, samples = (2**31 - 1, 2**31 - 1), np.array([0, 1], np.int64)
    points = np.array([[2**31 - 2.5, 2**31 - 1.5]] * 2)
    keys = launch("point_keys", points, samples, np.zeros(2), np.ones(2), sides, 2)
    last = (2**31 - 3) * sides[1] + 2**31 - 2
    assert keys.tolist() == [last, sides[0] * sides[1] + last]


@pytest.mark.parametrize(("count", "limit"), [(0, 5), (1, 0), (500, 0), (500, 20), (200_000, 3000), (500, 2**62 + 5)])
def test_keys_are_sorted_and_equal_ones_keep_their_order(launch, count, limit, rng):
    keys = rng.integers(-1, limit + 1, count)
    found, members = launch("sort_keys", keys, limit)
    np.testing.assert_array_equal(members, np.argsort(keys, kind="stable"))
    np.testing.assert_array_equal(found, keys[members])
    assert found.dtype == members.dtype == np.int64


def looked_up(features, rows, weights, background, samples):
    """Row by row, corner by corner, in float64."""
    features, background = precise(features, background)
    out = np.zeros((len(rows), features.shape[1]))
    for p, k in np.ndindex(rows.shape):
        below = 0 if background is None else background[samples[p] if len(background) > 1 else 0]
        value = features[rows[p, k]] if rows[p, k] >= 0 else below
        out[p] += value if weights is None else weights[p, k] * value
    return out


@each_storage
@pytest.mark.parametrize("corners", [None, 8])
@pytest.mark.parametrize("backgrounds", [0, 1, 3])
@pytest.mark.parametrize(("sites", "count", "channels"), [(9, 40, 3), (4, 3, 65), (0, 6, 2), (3, 0, 2)])
def test_rows_read_at_points(launch, dtype, corners, backgrounds, sites, count, channels, rng):
    features = rng.standard_normal((sites, channels)).astype(dtype)
    background = rng.standard_normal((backgrounds, channels)).astype(dtype) if backgrounds else None
    rows = rng.integers(-1, sites, (count, corners or 1)).astype(np.int32)
    weights = rng.random((count, corners)) if corners else None
    samples = rng.integers(0, 3, count) if backgrounds != 1 else None
    out = launch("interpolate_rows", features, rows, weights, background, samples)
    expected = looked_up(features, rows, weights, background, samples)
    assert out.dtype == dtype
    if corners is None:
        np.testing.assert_array_equal(out, expected)
    else:
        reference.assert_close(out, expected)


def some_groups(rng, count: int, groups: int, left_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Members, in random groups, some of which are empty, and those that are left out first."""
    borders = rng.integers(left_out, count + 1, groups - 2)
    splits = np.sort(np.concatenate([[left_out, count], borders, borders[:1]]))
    return rng.permutation(count), splits


@each_storage
@pytest.mark.parametrize("corners", [None, 4])
@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("channels", [1, 3, 40])
def test_sums_and_means_of_groups(launch, dtype, corners, mean, channels, rng):
    values = rng.standard_normal((50, channels)).astype(dtype)
    weights = rng.standard_normal((50, corners)) if corners else None
    members, splits = some_groups(rng, 50 * (corners or 1), 12, 3)
    out = launch("group_sum", values, members, splits, weights, mean)
    expected = np.zeros((12, channels))
    for s in range(12):
        for m in members[splits[s] : splits[s + 1]]:
            row = values[m // (corners or 1)].astype(np.float64)
            expected[s] += row if weights is None else weights.flat[m] * row
        expected[s] /= max(splits[s + 1] - splits[s], 1) if mean else 1
    assert out.dtype == dtype and (np.diff(splits) == 0).any()
    reference.assert_close(out, expected)


@each_storage
@pytest.mark.parametrize("channels", [1, 3, 40])
def test_maxima_of_groups(launch, dtype, channels, rng):
    values = rng.integers(-3, 4, (50, channels)).astype(dtype)  # with ties
    members, splits = some_groups(rng, 50, 12, 3)
    out, chosen = launch("group_max", values, members, splits)
    assert out.dtype == dtype
    for s in range(12):
        group = members[splits[s] : splits[s + 1]]
        if not len(group):
            assert (out[s] == -np.inf).all() and (chosen[s] == -1).all()
            continue
        np.testing.assert_array_equal(out[s], values[group].max(axis=0))
        np.testing.assert_array_equal(chosen[s], group[values[group].argmax(axis=0)])


def test_not_a_number_is_the_largest_and_passes_through_sums(launch):
    values = np.array([[1.0], [np.nan], [5.0], [np.nan], [-np.inf]])
    members, splits = np.array([2, 3, 1, 0, 4]), np.array([0, 3, 4, 5])
    out, chosen = launch("group_max", values, members, splits)
    assert np.isnan(out[0, 0]) and out[1:].tolist() == [[1], [-np.inf]] and chosen.tolist() == [[3], [0], [4]]
    total = launch("group_sum", values, members, splits, None, False)
    assert np.isnan(total[0, 0]) and total[1:].tolist() == [[1], [-np.inf]]


def test_nothing_to_do(launch):
    none, no_keys = np.zeros((0, 3)), np.zeros(0, np.int64)
    given, table = (none, no_keys, np.zeros(3), np.ones(3), (2, 2, 2), 1), (
        no_keys, *kernels.launch("hash_insert", no_keys, True))
    assert launch("point_keys", *given).shape == (0,)
    rows, weights = launch("point_rows", *given, *table, True)
    assert rows.shape == weights.shape == (0, 8)
    for trilinear in (False, True):  # no sites
        assert (launch("point_rows", np.ones((2, 3)), None, *given[2:], *table, trilinear)[0] == -1).all()
    assert launch("group_sum", none, no_keys, np.zeros(3, np.int64), None, True).tolist() == [[0] * 3] * 2
    assert launch("group_max", none, no_keys, np.zeros(1, np.int64))[1].shape == (0, 3)


@in_half
def test_a_sum_of_float16_is_rounded_once(launch, dtype):
    values, splits = np.ones((5000, 2), dtype), np.array([0, 5000])
    assert launch("group_sum", values, np.arange(5000), splits, None, False).tolist() == [[5000, 5000]]


def test_a_sum_is_taken_in_the_order_of_the_members(launch):
    """In float64 1e17 + 1 is 1e17: only this order gives 1."""
    values = np.array([[1.0], [1e17], [-1e17]])
    for order, total in (([1, 2, 0], 1.0), ([1, 0, 2], 0.0)):
        assert launch("group_sum", values, np.array(order), np.array([0, 3]), None, False).tolist() == [[total]]


def test_the_same_bits_for_any_number_of_threads_and_inputs_stay(rng):
    points, features = rng.uniform(0, 20, (40_000, 3)), rng.standard_normal((8000, 5)).astype("f4")
    weights, rows = rng.random((40_000, 8)), rng.integers(-1, 8000, (40_000, 8)).astype(np.int32)
    members, splits = some_groups(rng, 40_000 * 8, 9000, 100)
    values = rng.standard_normal((40_000, 5)).astype("f4")
    kept = [one.copy() for one in (points, features, weights, rows, members, splits, values)]
    keys = np.arange(0, 8000, 2)
    before, results, table = get_num_threads(), set(), (keys, *kernels.launch("hash_insert", keys, True))
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            given = points, None, np.zeros(3), np.ones(3), (20, 20, 20), 1
            found = [kernels.launch("point_keys", *given), *kernels.launch("point_rows", *given, *table, True),
                     kernels.launch("interpolate_rows", features, rows, weights, None, None),
                     kernels.launch("interpolate_rows", features, rows[:, :1].copy(), None, features[:1], None),
                     kernels.launch("group_sum", values, members, splits, weights, True),
                     *kernels.launch("group_max", values, members // 8, splits),
                     *kernels.launch("sort_keys", rows[:, :4].reshape(-1).astype(np.int64), 8000)]
            results.add(b"".join(one.tobytes() for one in found))
    finally:
        set_num_threads(before)
    assert len(results) == 1
    for one, copy in zip((points, features, weights, rows, members, splits, values), kept, strict=True):
        np.testing.assert_array_equal(one, copy)


ROWS, ROW, GROUPED = np.zeros((2, 2), np.int32), np.zeros((2, 1), np.int32), (np.zeros((4, 2)), np.arange(4))


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("point_rows", (GROUPED[0], None, np.zeros(2), np.ones(2), (3, 3), 1, np.zeros(3, np.int64), np.zeros(3, np.int64),
                    np.zeros(3, np.int32), False), "table_keys has 3 slots, expected a power of two"),
    ("interpolate_rows", (np.ones((3, 2)), ROWS, None, None, None), r"rows has shape \(2, 2\) and weights is None"),
    ("interpolate_rows", (np.ones((3, 2)), ROWS, np.ones((2, 2)), np.ones((2, 2)), None),
     "background has 2 rows and samples is None"),
    ("group_sum", (*GROUPED, np.array([0, 5]), None, True), "splits is .* expected numbers that rise within 0 to 4"),
    ("group_max", (*GROUPED, np.array([0, 3, 2])), "splits is .* expected numbers that rise within 0 to 4"),
    ("group_max", (*GROUPED, np.array([-1, 2])), "splits is .* expected numbers that rise within 0 to 4"),
    ("group_max", (*GROUPED, np.zeros(0, np.int64)), "splits is empty, expected one number more"),
])
def test_what_does_not_fit_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        kernels.launch(name, *arguments)


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("sort_keys", (np.array([3, -2]), 3), "keys are -2 to 3, expected -1 to 3"),
    ("interpolate_rows", (np.ones((3, 2)), ROW + 3, None, None, None), "rows are 3 to 3, expected -1 to 2"),
    ("interpolate_rows", (np.ones((3, 2)), ROW, None, np.ones((2, 2)), np.array([0, 2])),
     "samples are 0 to 2, expected 0 to 1"),
    ("group_sum", (GROUPED[0], np.array([0, 8]), np.array([0, 2]), np.ones((4, 2)), True),
     "members are 0 to 8, expected 0 to 7"),
    ("group_max", (GROUPED[0], np.array([4]), np.array([0, 1])), "members are 4 to 4, expected 0 to 3"),
])
def test_rows_that_do_not_exist_are_refused_where_all_is_checked(name, arguments, message, monkeypatch):
    monkeypatch.setattr("sparsenet.kernels.table.checking", lambda: True)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        kernels.launch(name, *arguments)
