"""Rows of two sets of sites on their union, side by side, added, subtracted, multiplied and split again, against plain
loops."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from cuda_host.storage import each_storage

from sparsenet.kernels import get_num_threads, set_num_threads


class Sides:
    """Rows of two sides, which stand at the given shares of the sites; None: at all of them.

    samples : of the batch; for the backgrounds: None, "shared" or "own", one for each sample
    """

    def __init__(self, rng, dtype, sites=40, shares=(0.5, 0.7), channels=(3, 5), backgrounds=("shared", "own"),
                 samples=3):
        self.coordinates = np.zeros((sites, 3), np.int32)
        self.coordinates[:, 0] = np.sort(rng.integers(0, samples, sites))
        self.rows = [None if share is None else np.flatnonzero(rng.random(sites) < share) for share in shares]
        counts = [sites if rows is None else len(rows) for rows in self.rows]
        self.values = [rng.standard_normal(shape).astype(dtype) for shape in zip(counts, channels, strict=True)]
        heights = {None: 0, "shared": 1, "own": samples}
        self.backgrounds = [None if kind is None else rng.standard_normal((heights[kind], width)).astype(dtype)
                            for kind, width in zip(backgrounds, channels, strict=True)]

    def arguments(self):
        return *self.values, *self.rows, *self.backgrounds, self.coordinates

    def at(self, site):
        """The rows of both sides at a site, in float64."""
        found = []
        for values, rows, background in zip(self.values, self.rows, self.backgrounds, strict=True):
            place = [site] if rows is None else np.flatnonzero(rows == site)
            if len(place):
                found.append(values[place[0]])
            elif background is None:
                found.append(np.zeros(values.shape[1]))
            else:
                found.append(background[self.coordinates[site, 0] if len(background) > 1 else 0])
        return [row.astype(np.float64) for row in found]


KINDS = pytest.mark.parametrize("options", [
    {}, {"shares": (None, 0.5)}, {"shares": (0.5, None), "backgrounds": ("own", None)}, {"shares": (None, None)},
    {"backgrounds": (None, None)}, {"shares": (0.0, 1.0), "backgrounds": ("own", "own")}, {"shares": (0.0, 0.0)},
    {"sites": 0, "shares": (0.5, None)}, {"sites": 1, "shares": (1.0, None)},
    {"sites": 2500, "shares": (0.9, 0.01), "samples": 1}],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()) or "both")


@each_storage
@KINDS
def test_side_by_side(launch, rng, dtype, options):
    channels = (16, 33) if len(options) != 1 else (3, 5)
    sides = Sides(rng, dtype, channels=channels, **options)
    out = launch("concatenate_rows", *sides.arguments())
    assert out.dtype == dtype and out.shape == (len(sides.coordinates), sum(channels))
    for site, row in enumerate(out):
        assert np.array_equal(row, np.concatenate(sides.at(site)))


ELEMENTWISE = {"add_rows": operator.add, "subtract_rows": operator.sub, "multiply_rows": operator.mul}


@each_storage
@KINDS
@pytest.mark.parametrize("kernel", ELEMENTWISE)
def test_combined(launch, rng, dtype, options, kernel):
    channels = 33 if len(options) != 1 else 3
    sides = Sides(rng, dtype, channels=(channels, channels), **options)
    out = launch(kernel, *sides.arguments())
    assert out.dtype == dtype and out.shape == (len(sides.coordinates), channels)
    for site, row in enumerate(out):  # in double, rounded once: the same
        assert np.array_equal(row, ELEMENTWISE[kernel](*sides.at(site)).astype(dtype))


@each_storage
@KINDS
def test_split(launch, rng, dtype, options):
    channels = (16, 33) if len(options) != 1 else (3, 5)
    sides = Sides(rng, dtype, channels=channels, **options)
    values = rng.standard_normal((len(sides.coordinates), sum(channels))).astype(dtype)
    found = launch("split_rows", values, *sides.rows, channels[0])
    for part, columns, rows in zip(found, np.split(values, channels[:1], axis=1), sides.rows, strict=True):
        assert part.dtype == dtype and part.flags.c_contiguous
        assert np.array_equal(part, columns if rows is None else columns[rows])


@pytest.mark.parametrize("channels", [(0, 4), (4, 0), (0, 0)])
def test_a_side_without_channels(launch, rng, channels):
    sides = Sides(rng, np.float32, channels=channels)
    assert np.array_equal(launch("concatenate_rows", *sides.arguments()),
                          [np.concatenate(sides.at(site)) for site in range(40)])
    x, y = launch("split_rows", np.ones((40, sum(channels)), np.float32), *sides.rows, channels[0])
    assert x.shape == sides.values[0].shape and y.shape == sides.values[1].shape


def test_without_coordinates_both_sides_have_all_sites(launch, rng):
    x, y = rng.standard_normal((2, 30, 4))
    for kernel, combine in ELEMENTWISE.items():
        assert np.array_equal(launch(kernel, x, y), combine(x, y))
    assert np.array_equal(launch("concatenate_rows", x, y[:, :2].copy()), np.hstack([x, y[:, :2]]))


@pytest.mark.parametrize("kernel", ["concatenate_rows", *ELEMENTWISE, "split_rows"])
def test_inputs_stay_and_threads_do_not_matter(launch, rng, kernel):
    sides = Sides(rng, np.float32, 20_000, channels=(20, 20))
    arrays = sides.arguments() if kernel != "split_rows" else (rng.random((20_000, 40), np.float32), *sides.rows)
    kept, before, results = [array.copy() for array in arrays], get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            found = launch(kernel, *arrays, *((7,) if kernel == "split_rows" else ()))
            results.append(b"".join(one.tobytes() for one in (found if isinstance(found, tuple) else (found,))))
    finally:
        set_num_threads(before)
    assert len(set(results)) == 1
    assert all(np.array_equal(*pair) for pair in zip(kept, arrays, strict=True))


class TestWhatRaises:
    @pytest.fixture(autouse=True)
    def every_guard(self, monkeypatch):
        monkeypatch.setattr("sparsenet.kernels.table.checking", lambda: True)

    def test_rows_that_do_not_fit(self, launch, rng):
        x = rng.standard_normal((3, 2))
        with pytest.raises(ValueError, match="add_rows: y has 3 rows, expected 4, one for each site: pass y_rows"):
            launch("add_rows", np.ones((4, 2)), x)
        with pytest.raises(ValueError, match="concatenate_rows: coordinates is None, expected those of the union"):
            launch("concatenate_rows", x, x, np.arange(3))
        with pytest.raises(ValueError, match="multiply_rows: x_background has no row"):
            launch("multiply_rows", x, x, None, None, np.ones((0, 2)))

    @pytest.mark.parametrize("rows", [[0, 2, 2], [1, 0, 2], [-1, 0, 1], [0, 1, 4]])
    def test_rows_that_do_not_ascend_within_the_union(self, launch, rng, rows):
        x, y = np.ones((3, 2)), np.ones((4, 2))
        with pytest.raises(ValueError, match="add_rows: x_rows must ascend from 0 or more to below 4"):
            launch("add_rows", x, y, np.array(rows), None, None, None, np.zeros((4, 2), np.int32))

    def test_a_split_of_other_channels_or_rows(self, launch, rng):
        x = np.ones((3, 4))
        for channels in (-1, 5):
            with pytest.raises(ValueError, match=f"split_rows: channels is {channels}, expected 0 to 4"):
                launch("split_rows", x, None, None, channels)
        with pytest.raises(ValueError, match="split_rows: y_rows must ascend from 0 or more to below 3"):
            launch("split_rows", x, np.array([0, 2]), np.array([0, 3]), 2)
