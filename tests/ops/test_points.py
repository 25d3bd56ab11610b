"""from_points and at_points against loops over points and over the cells of dense grids, values and gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import reference
from cuda_host import cupy_of_numpy

import sparsenet as sn
from sparsenet.backend import to_device
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.ops.points import REDUCTIONS

SIZES = [(9,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]
each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{len(size)}d")
BATCH, CHANNELS = 3, 2


def grid(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxel size and origin."""
    return np.array([0.3, 1.7, 0.1, 1.0])[:dimension], np.array([-0.3, 0.1, 7.0, 0.0])[:dimension]


def some_points(rng, size, count=60, beyond=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Points in and around the grid, and their samples, of which the second has none."""
    voxel, origin = grid(len(size))
    at = rng.uniform(-beyond, np.array(size) + beyond, (count, len(size)))
    return origin + at * voxel, rng.choice([0, 2], count)


def cell_of(point, voxel, origin) -> tuple[int, ...]:
    return tuple(math.floor((p - o) / v) for p, o, v in zip(point, origin, voxel, strict=True))


def points_by_cell(points, samples, voxel, origin, size) -> dict[tuple[int, ...], list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for number, point in enumerate(points):
        cell = cell_of(point, voxel, origin)
        if all(0 <= at < side for at, side in zip(cell, size, strict=True)):
            found.setdefault((int(samples[number]), *cell), []).append(number)
    return dict(sorted(found.items()))


def reduced(rows: np.ndarray, reduce: str) -> tuple[np.ndarray, np.ndarray]:
    """The row that rows (n, C) become, and the gradient of its sum by each of them."""
    first = np.arange(len(rows))[:, None] == (rows.argmax(axis=0) if reduce == "max" else 0)
    return {"mean": (rows.mean(axis=0), np.full(rows.shape, 1 / len(rows))),
            "sum": (rows.sum(axis=0), np.ones(rows.shape)),
            "max": (rows.max(axis=0), np.where(first, 1.0, 0.0)),
            "first": (rows[0], np.broadcast_to(first, rows.shape) * 1.0)}[reduce]


@pytest.mark.parametrize("reduce", REDUCTIONS)
@each_size
def test_each_cell_has_what_its_points_come_to(reduce, size, dtype, rng):
    (voxel, origin), (points, samples) = grid(len(size)), some_points(rng, size)
    features = sn.Tensor(rng.integers(-3, 4, (60, CHANNELS)).astype(dtype), requires_grad=True)  # with ties
    x, index = sn.SparseTensor.from_points(points, features, voxel, origin, size, samples, reduce, True, batch_size=4)
    cells = points_by_cell(points, samples, voxel, origin, size)
    assert x.coordinates.tolist() == [list(cell) for cell in cells] and x.dtype == dtype
    assert (x.spatial_size, x.batch_size, x.zero_background) == (size, 4, True)
    inside = sum(map(len, cells.values()))
    assert x.dropped == 60 - inside > 0 and index.dtype == np.int32
    gradient = rng.standard_normal(x.features.shape).astype(dtype)
    x.features.backward(gradient)
    expected, back = np.zeros(x.features.shape), np.zeros(features.shape)
    for row, numbers in enumerate(cells.values()):
        expected[row], slope = reduced(features.array[numbers].astype(np.float64), reduce)
        back[numbers] = slope * gradient[row]
        assert (index[numbers] == row).all()
    assert (index < 0).sum() == x.dropped
    reference.assert_close(x.features, expected)
    reference.assert_close(features.grad, back)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_gradients_by_differences(reduce, rng):
    (voxel, origin), (points, samples) = grid(2), some_points(rng, (4, 5))
    features = sn.Tensor(rng.standard_normal((60, CHANNELS)), requires_grad=True)
    assert sn.gradcheck(lambda rows: sn.ops.from_points(points, rows, voxel, origin, (4, 5), samples, reduce).features,
                        [features])


def test_the_smallest_grid_that_holds_all_points(rng):
    points = np.array([[0.25, -3.0], [0.5, 2.0], [1.24, -2.9]])
    x = sn.SparseTensor.from_points(points, None, 0.5)
    assert (x.spatial_size, x.dropped, x.batch_size, x.dtype) == ((2, 11), 0, 1, np.float32)
    assert x.coordinates.tolist() == [[0, 0, 0], [0, 0, 10], [0, 1, 0]] and x.features.tolist() == [[1]] * 3
    same = sn.SparseTensor.from_points(points, None, 0.5, points.min(axis=0), (2, 11))
    assert same.coordinates.tolist() == x.coordinates.tolist()
    given = sn.SparseTensor.from_points(points, None, 0.5, origin=[0.5, 0])
    assert (given.spatial_size, given.dropped) == ((2, 5), 2)
    cut = sn.SparseTensor.from_points(points, None, 0.5, spatial_size=(1, 3))
    assert (cut.coordinates.tolist(), cut.dropped) == ([[0, 0, 0]], 2)
    float32 = rng.uniform(-5, 5, (1000, 3)).astype("f4")
    assert sn.SparseTensor.from_points(float32, None, 0.1).dropped == 0


def test_the_sum_of_ones_counts_points_and_lists_will_do():
    x = sn.SparseTensor.from_points([[0.5], [0.6], [3.0]], [[1.0], [1.0], [1.0]], 1, 0, (4,), [1, 1, 0], "sum")
    assert x.coordinates.tolist() == [[0, 3], [1, 0]] and x.features.tolist() == [[1], [2]]


def test_a_sum_is_taken_in_the_order_of_the_rows_and_a_mean_in_float64():
    """In float32 the sum of these ones would stop at 2^24."""
    values = np.array([[2.0**24], [1.0], [1.0], [-(2.0**24)]], np.float32)
    points = np.zeros((4, 1))
    assert sn.SparseTensor.from_points(points, values, 1.0, reduce="sum").features.tolist() == [[2.0]]
    large = np.array([[1e17], [1.0], [-1e17]])
    assert sn.SparseTensor.from_points(points[:3], large, 1.0, reduce="sum").features.tolist() == [[0.0]]
    assert sn.SparseTensor.from_points(points[:3], large[[0, 2, 1]], 1.0, reduce="sum").features.tolist() == [[1.0]]


def test_a_sample_depends_on_no_other(rng):
    (voxel, origin), (points, samples) = grid(3), some_points(rng, (3, 4, 2), 300)
    features = rng.standard_normal((300, 5)).astype("f4")
    whole = sn.SparseTensor.from_points(points, features, voxel, origin, (3, 4, 2), samples)
    own = samples == 2
    lone = sn.SparseTensor.from_points(points[own], features[own], voxel, origin, (3, 4, 2))
    rows = whole.coordinates[:, 0] == 2
    assert whole.features.array[rows].tobytes() == lone.features.array.tobytes()
    assert (whole.coordinates[rows, 1:] == lone.coordinates[:, 1:]).all()


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_no_points_and_none_inside(reduce):
    none = np.zeros((0, 2))
    x, index = sn.SparseTensor.from_points(none, none, 1.0, reduce=reduce, return_index=True)
    assert (len(x), x.spatial_size, x.batch_size, x.dropped, len(index)) == (0, (1, 1), 1, 0, 0)
    assert sn.SparseTensor.from_points(none, none, 1.0, 0, (3, 3), batch=[], reduce=reduce).batch_size == 0
    features = sn.Tensor(np.ones((4, 3)), requires_grad=True)
    x = sn.SparseTensor.from_points(np.full((4, 2), 9.0), features, 1.0, 0.0, (3, 3), reduce=reduce)
    assert (len(x), x.dropped) == (0, 4)
    x.features.sum().backward()
    assert not features.grad.any() and features.grad.shape == (4, 3)
    assert x.at_points(none, 1.0, 0.0).shape == (0, 3)
    assert not x.at_points(np.zeros((2, 2)), 1.0, 0.0, mode="trilinear").array.any()


class Field:
    """A sparse batch whose second sample is empty, its dense twin, and points in and around it."""

    def __init__(self, rng, size, backgrounds, dtype=np.float64, count=40):
        cells = math.prod(size)
        keys = np.sort(rng.choice(np.r_[:cells, 2 * cells : 3 * cells], cells, replace=False))
        coordinates = np.stack(np.unravel_index(keys, (BATCH, *size)), axis=1)
        shape = {"(C,)": (CHANNELS,), "(B, C)": (BATCH, CHANNELS), "none": None}[backgrounds]
        self.features = sn.Tensor(rng.standard_normal((cells, CHANNELS)).astype(dtype), requires_grad=True)
        self.background = None if shape is None else sn.Tensor(rng.standard_normal(shape).astype(dtype), True)
        self.x = sn.SparseTensor(self.features, coordinates, size, BATCH, self.background)
        self.points, _ = some_points(rng, size, count)
        self.samples = rng.integers(0, BATCH, count)
        self.voxel, self.origin = grid(len(size))

    def read(self, mode, x=None):
        return (x or self.x).at_points(self.points, self.voxel, self.origin, self.samples, mode)

    def cells(self, mode) -> list[list[tuple[float, tuple[int, ...]]]]:
        """For each point, the weights and the cells that it reads."""
        found = []
        for point in self.points:
            at = [(p - o) / v for p, o, v in zip(point, self.origin, self.voxel, strict=True)]
            if mode == "nearest":
                found.append([(1.0, tuple(map(math.floor, at)))])
                continue
            around = itertools.product(*((math.floor(a - 0.5), math.floor(a - 0.5) + 1) for a in at))
            found.append([(math.prod(1 - abs(a - 0.5 - c) for a, c in zip(at, cell, strict=True)), cell)
                          for cell in around])
        return found

    def expected(self, mode, gradient):
        """Values at the points, and the gradients of the dense grid's cells and of what is outside, by sample."""
        dense, size = self.x.to_dense().numpy(), self.x.spatial_size
        outside = np.zeros((BATCH, CHANNELS)) if self.background is None else np.broadcast_to(
            self.background.array, (BATCH, CHANNELS))
        values, to_grid, to_outside = np.zeros((len(self.points), CHANNELS)), np.zeros(dense.shape), np.zeros(
            (BATCH, CHANNELS))
        for p, listed in enumerate(self.cells(mode)):
            for weight, cell in listed:
                b = self.samples[p]
                if all(0 <= at < side for at, side in zip(cell, size, strict=True)):
                    values[p] += weight * dense[(b, slice(None), *cell)]
                    to_grid[(b, slice(None), *cell)] += weight * gradient[p]
                else:
                    values[p] += weight * outside[b]
                    to_outside[b] += weight * gradient[p]
        return values, to_grid, to_outside


@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
@pytest.mark.parametrize("backgrounds", ["(C,)", "(B, C)", "none"])
@each_size
def test_values_and_gradients_at_points_are_those_of_the_dense_grid(mode, backgrounds, size, rng):
    field = Field(rng, size, backgrounds)
    values = field.read(mode)
    gradient = rng.standard_normal(values.shape)
    values.backward(gradient)
    expected, to_grid, to_outside = field.expected(mode, gradient)
    reference.assert_close(values, expected)
    sites = field.x.coordinates
    at_sites = np.moveaxis(to_grid, 1, -1)[tuple(sites.T)]
    reference.assert_close(field.features.grad, at_sites, "gradient of features")
    if field.background is not None:
        np.moveaxis(to_grid, 1, -1)[tuple(sites.T)] = 0
        total = to_outside + to_grid.reshape(BATCH, CHANNELS, -1).sum(axis=2)
        reference.assert_close(field.background.grad, total if backgrounds == "(B, C)" else total.sum(axis=0),
                               "gradient of background")


@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
@pytest.mark.parametrize("backgrounds", ["(C,)", "(B, C)"])
def test_gradients_at_points_by_differences(mode, backgrounds, rng):
    field = Field(rng, (4, 5), backgrounds)
    assert sn.gradcheck(lambda features, background: field.read(mode, field.x.with_features(features, background)),
                        [field.features, field.background])


@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
def test_float32_is_read_within_its_tolerance(mode, rng):
    field = Field(rng, (3, 4, 2), "(C,)", np.float32)
    values = field.read(mode)
    assert values.dtype == np.float32
    reference.assert_close(values, field.expected(mode, np.zeros(values.shape))[0])


def test_what_was_put_in_comes_back_at_the_centres(rng):
    points = rng.permutation(np.argwhere(rng.random((4, 5, 6)) < 0.3)) + 0.5
    features = rng.standard_normal((len(points), 3))
    x, index = sn.SparseTensor.from_points(points * 0.5, features, 0.5, 0.0, (4, 5, 6), return_index=True)
    for mode in ("nearest", "trilinear"):
        np.testing.assert_array_equal(x.at_points(points * 0.5, 0.5, 0, mode=mode).array, features)
    np.testing.assert_array_equal(x.features.array[index], features)


def test_halfway_between_two_centres():
    x = sn.SparseTensor(np.array([[2.0], [4.0]]), np.array([[0, 0], [0, 1]]), (8,), 1, np.array([10.0]))
    points = np.array([[0.0], [0.5], [1.0], [2.0], [7.9], [100.0]])
    assert x.at_points(points, 1, 0).array.ravel().tolist() == [2, 2, 4, 10, 10, 10]
    assert x.at_points(points, 1, 0, mode="trilinear").array.ravel().tolist() == [6, 2, 3, 7, 10, 10]


def test_the_same_bits_for_any_number_of_threads(rng):
    points, features = rng.uniform(0, 30, (50_000, 3)), rng.standard_normal((50_000, 3)).astype("f4")
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            rows = sn.Tensor(features, requires_grad=True)
            x = sn.SparseTensor.from_points(points, rows, 1.0, 0.0, (30, 30, 30))
            x.at_points(points + 0.3, 1.0, 0.0, mode="trilinear").sum().backward()
            results.add(x.features.array.tobytes() + rows.grad.tobytes())
    finally:
        set_num_threads(before)
    assert len(results) == 1


def test_grids_of_very_many_cells(rng):
    size, points = (2**31 - 1, 2**30), rng.uniform(0, 2**30, (50, 2))
    x = sn.SparseTensor.from_points(np.concatenate([points, points]), np.arange(100.0)[:, None], 1.0, 0, size)
    assert sorted(x.coordinates[:, 1:].tolist()) == sorted(np.floor(points).astype(int).tolist())
    rows = np.lexsort(np.floor(points).T[::-1])
    np.testing.assert_array_equal(x.features.array[:, 0], rows + 25)


@pytest.mark.parametrize("mode", ["nearest", "trilinear"])
def test_on_a_gpu_it_is_the_same(mode, host_driver, rng):
    points, samples = some_points(rng, (3, 4, 2), 50)
    voxel, origin = grid(3)
    results = []
    with cupy_of_numpy.installed(host_driver):
        for device in ("cpu", "cuda"):
            here = [to_device(one, device) for one in (points, samples)]
            for reduce in REDUCTIONS:
                features = sn.Tensor(to_device(np.arange(100.0).reshape(50, 2) % 7, device), requires_grad=True)
                x, index = sn.SparseTensor.from_points(here[0], features, voxel, origin, (3, 4, 2), here[1], reduce,
                                                       True, batch_size=3)
                background = sn.Tensor(to_device(np.ones((3, 2)), device), requires_grad=True)
                read = x.with_features(x.features, background).at_points(here[0], voxel, origin, here[1], mode)
                (read * read).sum().backward()
                results.append([x.coordinates, index, x.features.array, read.array, features.grad, background.grad])
                assert x.device == device and x.dropped > 0
            free = sn.SparseTensor.from_points(here[0], None, voxel)
            results.append([free.coordinates, free.features.array])
        results = [[to_device(one, "cpu") for one in listed] for listed in results]
    half = len(results) // 2
    for found, expected in zip(results[half:], results[:half], strict=True):
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_float16_on_a_gpu(reduce, host_driver, rng):
    points, features = rng.uniform(0, 4, (60, 2)), rng.standard_normal((60, 3)).astype("f2")
    results = []
    with cupy_of_numpy.installed(host_driver):
        for device, dtype in (("cuda", "f2"), ("cpu", "f8")):
            rows = sn.Tensor(to_device(features.astype(dtype), device), requires_grad=True)
            x = sn.SparseTensor.from_points(to_device(points, device), rows, 1.0, 0.0, (4, 4), reduce=reduce)
            background = sn.Tensor(to_device(np.ones(3, dtype), device), requires_grad=True)
            read = x.with_features(x.features, background).at_points(to_device(points, device), 1.0, 0.3,
                                                                     mode="trilinear")
            (read * read).sum().backward()
            found = [x.features.array, read.array, rows.grad, background.grad]
            assert all(one.dtype == dtype for one in found)
            results.append([to_device(one, "cpu") for one in found])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02 * np.abs(other).max())


POINTS, ROWS = np.zeros((3, 2)), np.zeros((3, 1))
X = sn.SparseTensor(np.zeros((1, 1)), np.zeros((1, 3), int), (2, 2), 2)
TENSOR = sn.Tensor(POINTS, requires_grad=True)


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    ((np.zeros(3), ROWS, 1), {}, ValueError, r"points have shape \(3,\), expected \(P, D\)"),
    ((np.zeros((3, 5)), ROWS, 1), {}, ValueError, r"points have shape \(3, 5\), expected \(P, D\): a row of 1 to 4"),
    ((np.zeros((3, 2), complex), ROWS, 1), {}, TypeError, "points are complex128, expected real numbers"),
    ((TENSOR, ROWS, 1), {}, ValueError, "points require a gradient"),
    ((POINTS, np.zeros((2, 1)), 1), {}, ValueError, r"features have shape \(2, 1\), expected \(3, C\)"),
    ((POINTS, np.zeros((3, 0)), 1), {}, ValueError, r"features have shape \(3, 0\), expected \(3, C\)"),
    ((POINTS, ROWS.astype(int), 1), {}, TypeError, "features are int64, expected float32 or float64"),
    ((POINTS, ROWS, 0), {}, ValueError, "voxel_size is 0, expected a number above 0"),
    ((POINTS, ROWS, np.nan), {}, ValueError, "voxel_size is nan, expected a finite number, or 2 of them"),
    ((POINTS, ROWS, (1, 1, 1)), {}, ValueError, r"voxel_size is \(1, 1, 1\), expected a finite number, or 2 of them"),
    ((POINTS, ROWS, 1, "zero"), {}, ValueError, "origin is 'zero', expected a finite number, or 2 of them"),
    ((POINTS, ROWS, 1, 0, (3,)), {}, ValueError, r"spatial_size is \(3,\), expected 2 numbers"),
    ((POINTS, ROWS, 1, 0, 3), {}, TypeError, "spatial_size is 3, expected one whole number per dimension"),
    ((POINTS, ROWS, 1), {"batch": [0, 1]}, ValueError, r"batch has shape \(2,\), expected \(3,\)"),
    ((POINTS, ROWS, 1), {"batch": [0, 1.0, 0]}, TypeError, "batch is float64, expected integers"),
    ((POINTS, ROWS, 1), {"batch": [0, 1, 2], "batch_size": 2}, ValueError, "point 2 is in sample 2, expected 0 to 1"),
    ((POINTS, ROWS, 1), {"batch": [0, -1, 0]}, ValueError, "point 1 is in sample -1, expected 0 to 0"),
    ((POINTS, ROWS, 1), {"batch_size": 2}, ValueError, "batch_size is 2 and batch is None"),
    ((POINTS, ROWS, 1), {"reduce": "median"}, ValueError, "reduce is 'median', expected one of mean, sum, max, first"),
    ((np.array([[0, 0], [1, np.nan]]), ROWS[:2], 1), {}, ValueError, r"row 1 of points is \[1.0, nan\], expected fin"),
    ((np.array([[0, 0], [1, np.inf]]), ROWS[:2], 1, 0, (2, 2)), {}, ValueError, r"row 1 of points is \[1.0, inf\]"),
    ((np.array([[0, 0], [1, 1e9]]), ROWS[:2], 0.1), {}, ValueError, "the points reach 1e.10 cells along an axis"),
    ((np.array([[1e300, 0]]), ROWS[:1], 1e-10, 0, (2, 2)), {}, ValueError, "infinitely many cells from the origin"),
])
def test_points_that_do_not_fit_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message) as raised:
        sn.SparseTensor.from_points(*arguments, **options)
    assert str(raised.value).startswith(("from_points: ", "ActiveSites: "))


@pytest.mark.parametrize(("points", "options", "error", "message"), [
    (np.zeros((3, 3)), {"batch": [0] * 3}, ValueError, r"points have shape \(3, 3\), expected \(P, 2\) for a grid of"),
    (POINTS, {}, ValueError, "batch is None, expected the sample of each point: x has 2 samples"),
    (POINTS, {"batch": [0, 1, 2]}, ValueError, "point 2 is in sample 2, expected 0 to 1"),
    (POINTS, {"batch": [0] * 3, "mode": "linear"}, ValueError, "mode is 'linear', expected one of nearest, trilinear"),
    (TENSOR, {"batch": [0] * 3}, ValueError, "points require a gradient"),
    (POINTS + np.inf, {"batch": [0] * 3}, ValueError, r"row 0 of points is \[inf, inf\], expected finite numbers"),
])
def test_reading_that_does_not_fit_is_refused(points, options, error, message):
    with pytest.raises(error, match=f"at_points: {message}"):
        X.at_points(points, 1.0, 0.0, **options)


def test_other_devices_and_other_tensors_are_refused(host_driver):
    with pytest.raises(TypeError, match="at_points: x is ndarray, expected a SparseTensor"):
        sn.ops.at_points(ROWS, POINTS, 1, 0)
    with cupy_of_numpy.installed(host_driver):
        there = to_device(POINTS, "cuda")
        with pytest.raises(TypeError, match="from_points: points are on cuda, features on cpu: move one of them"):
            sn.SparseTensor.from_points(there, ROWS, 1)
        with pytest.raises(TypeError, match="at_points: points are on cuda, x on cpu: move one of them"):
            X.at_points(there, 1, 0, to_device(np.zeros(3, int), "cuda"))
        with pytest.raises(TypeError, match="at_points: points are on cuda, batch on cpu: move one of them"):
            X.at_points(there, 1, 0, np.zeros(3, int))


def test_duplicate_coordinates_name_the_way_out():
    with pytest.raises(ValueError, match=r"are the same site \[0, 1\]: merge them first, as SparseTensor.from_points"):
        sn.SparseTensor(np.zeros((2, 1)), np.array([[0, 1], [0, 1]]), (3,), 1)


def test_what_was_left_out_is_known_of_the_result_and_its_copies_alone():
    x = sn.SparseTensor.from_points([[0.5], [9.5]], None, 1.0, 0.0, (3,))
    assert (x.dropped, x.to("cpu", "float64").dropped, (x + x).dropped, X.dropped) == (1, 1, None, None)
