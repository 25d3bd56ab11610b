"""Sixteen numbers side by side: loads and stores at the borders, sums in their stated order, exp against float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from sparsenet.kernels import lanes

NAN = np.float32(np.nan)


@numba.njit
def _exponentials(values, out):
    for i in range(0, values.size, lanes.WIDTH):
        rest = values.size - i
        lanes.store_some(out, i, rest, lanes.exponential(lanes.load_some(values, i, rest, np.float32(0))))


@numba.njit
def _reductions(values):
    row = lanes.load(values, 0)
    return lanes.total_of(row), lanes.maximum_of(row)


@numba.njit
def _arithmetic(a, b, c, out):
    x, y, z = lanes.load(a, 0), lanes.load(b, 0), lanes.load(c, 0)
    lanes.store(out, 0, x + y)
    lanes.store(out, 16, x - y)
    lanes.store(out, 32, x * y)
    lanes.store(out, 48, lanes.fma(x, y, z))
    lanes.store(out, 64, lanes.maximum(x, y))
    lanes.store(out, 80, lanes.spread(a[3]))


def exponentials(values):
    out = np.empty_like(values)
    _exponentials(values, out)
    return out


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 50])
def test_only_what_is_counted_is_written(size):
    out = np.full(size + 20, NAN)
    _exponentials(np.zeros(size, np.float32), out[:size])
    assert (out[:size] == 1).all() and np.isnan(out[size:]).all()


def test_arithmetic(rng):
    a, b, c = rng.standard_normal((3, 16)).astype(np.float32)
    out = np.empty(96, np.float32)
    _arithmetic(a, b, c, out)
    fused = (a.astype(np.float64) * b + c).astype(np.float32)
    np.testing.assert_array_equal(out.reshape(6, 16)[[0, 1, 2, 4, 5]], [a + b, a - b, a * b, np.maximum(a, b),
                                                                      np.full(16, a[3])])
    np.testing.assert_allclose(out[48:64], fused, rtol=1e-7)


def test_a_product_is_rounded_after_the_addition():
    a, b = np.full(16, 1 + 2.0**-12, np.float32), np.full(16, 1 - 2.0**-12, np.float32)
    out = np.empty(96, np.float32)
    _arithmetic(a, b, np.full(16, -1, np.float32), out)
    assert (out[48:64] == -(2.0**-24)).all()  # the product alone would be rounded to 1


def test_lanes_are_joined_by_halves(rng):
    row = rng.standard_normal(16).astype(np.float32)
    total, largest = _reductions(row)
    joined = row
    while len(joined) > 1:
        joined = joined[: len(joined) // 2] + joined[len(joined) // 2 :]
    assert total == joined[0] and largest == row.max()


def test_exponentials_err_by_less_than_a_unit_in_the_last_place():
    first, last = (int(np.float32(value).view(np.uint32)) for value in (-0.0, -86.5))
    values = np.arange(first, last, 701, np.uint32).view(np.float32)  # of all exponents alike
    expected = np.exp(values.astype(np.float64))
    errors = np.abs(exponentials(values) - expected) / np.spacing(expected.astype(np.float32))
    assert errors.max() < 1


def test_exponentials_at_the_ends():
    values = np.array([0, -0.0, -1e-30, -86.7, -200, -1e30, -np.inf, np.nan, -np.nan], np.float32)
    np.testing.assert_array_equal(exponentials(values), [1, 1, 1, 0, 0, 0, 0, np.nan, np.nan])
