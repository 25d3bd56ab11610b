"""Rows of samples, added to the rows of their sites, subtracted and multiplied, against NumPy."""

import operator

import numpy as np
import pytest
from cuda_host.storage import each_storage

from sparsenet.kernels import get_num_threads, set_num_threads

OPERATIONS = pytest.mark.parametrize(("kernel", "operation"), [
    ("add_sample_rows", operator.add), ("subtract_sample_rows", operator.sub), ("multiply_sample_rows", operator.mul)])


def coordinates_of(rng, count, samples):
    rows = np.zeros((count, 4), np.int32)
    rows[:, 0] = np.sort(rng.integers(0, samples, count))
    return rows


@each_storage
@OPERATIONS
@pytest.mark.parametrize(("count", "channels", "samples"), [(0, 3, 2), (1, 1, 1), (7, 5, 3), (7, 0, 3), (5000, 33, 4)])
def test_each_site_meets_the_row_of_its_sample(launch, rng, dtype, kernel, operation, count, channels, samples):
    values = rng.standard_normal((count, channels)).astype(dtype)
    rows = rng.standard_normal((samples, channels)).astype(dtype)
    coordinates = coordinates_of(rng, count, samples)
    out = launch(kernel, values, rows, coordinates)
    assert out.dtype == dtype and np.array_equal(out, operation(values, rows[coordinates[:, 0]]))


@OPERATIONS
def test_one_row_serves_all_samples(launch, rng, kernel, operation):
    values, row = rng.standard_normal((90, 6)), rng.standard_normal((1, 6))
    assert np.array_equal(launch(kernel, values, row, coordinates_of(rng, 90, 5)), operation(values, row))


def test_the_values_stay_and_threads_do_not_matter(launch, rng):
    values, rows = rng.standard_normal((9000, 40)), rng.standard_normal((3, 40))
    coordinates, kept, before = coordinates_of(rng, 9000, 3), values.copy(), get_num_threads()
    results = []
    for threads in (1, 3):
        set_num_threads(threads)
        results.append(launch("subtract_sample_rows", values, rows, coordinates))
    set_num_threads(before)
    assert np.array_equal(*results) and np.array_equal(values, kept)


def test_channels_that_differ_raise(launch, rng):
    with pytest.raises(ValueError, match="add_sample_rows: rows has shape"):
        launch("add_sample_rows", np.ones((3, 4)), np.ones((2, 5)), coordinates_of(rng, 3, 2))
