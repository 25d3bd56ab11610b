"""exp and exp - 1 of lanes, against float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from sparsenet.kernels.cpu.exponential import exponential, exponential_minus_one
from sparsenet.kernels.cpu.lanes import load_some, store_some


@numba.njit
def _exponentials(values, out):
    for i in range(0, values.size, 16):
        rest = values.size - i
        store_some(out, i, rest, exponential(load_some(values, i, rest, np.float32(0), 16)))


@numba.njit
def _exponentials_by_four(values, out):
    for i in range(0, values.size, 4):
        rest = values.size - i
        store_some(out, i, rest, exponential(load_some(values, i, rest, np.float32(0), 4)))


@numba.njit
def _exponentials_minus_one(values, out):
    for i in range(0, values.size, 16):
        rest = values.size - i
        store_some(out, i, rest, exponential_minus_one(load_some(values, i, rest, np.float32(0), 16)))


def exponentials(values, of=_exponentials):
    out = np.empty_like(values)
    of(values, out)
    return out


def every(step):
    """Floats from 0 down to -86.5, equally many of each exponent."""
    first, last = (int(np.float32(value).view(np.uint32)) for value in (-0.0, -86.5))
    return np.arange(first, last, step, np.uint32).view(np.float32)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 50])
def test_of_zeros_of_any_number(size):
    out = np.full(size + 20, np.nan, np.float32)
    _exponentials(np.zeros(size, np.float32), out[:size])
    assert (out[:size] == 1).all() and np.isnan(out[size:]).all()


def test_it_errs_by_less_than_a_unit_in_the_last_place():
    values = every(701)
    expected = np.exp(values.astype(np.float64))
    errors = np.abs(exponentials(values) - expected) / np.spacing(expected.astype(np.float32))
    assert errors.max() < 1


def test_less_one_it_errs_by_a_unit_in_the_last_place_at_most():
    values = np.concatenate([every(701), -np.logspace(-30, 0, 40_000, dtype=np.float32)])
    expected = np.expm1(values.astype(np.float64))
    found = exponentials(values, _exponentials_minus_one)
    assert (np.abs(found - expected) / np.spacing(np.abs(expected).astype(np.float32))).max() <= 1
    assert (np.diff(found[np.argsort(values)]) >= -np.spacing(np.float32(1))).all()


def test_the_ends_less_one():
    values = np.array([0, -0.0, -1e-38, -86.7, -200, -1e30, -np.inf, np.nan, -np.nan], np.float32)
    np.testing.assert_array_equal(exponentials(values, _exponentials_minus_one),
                                  [0, 0, np.float32(-1e-38), -1, -1, -1, -1, np.nan, np.nan])


def test_the_ends():
    values = np.array([0, -0.0, -1e-30, -86.7, -200, -1e30, -np.inf, np.nan, -np.nan], np.float32)
    np.testing.assert_array_equal(exponentials(values), [1, 1, 1, 0, 0, 0, 0, np.nan, np.nan])


@pytest.mark.parametrize("of", [_exponentials, _exponentials_minus_one])
def test_not_a_number_stays_so_whatever_its_last_bits(of):
    values = (0x7FC00000 + np.arange(0, 1 << 22, 997, dtype=np.uint32)).view(np.float32)
    assert np.isnan(exponentials(values, of)).all() and np.isnan(exponentials(-values, of)).all()


def test_the_width_does_not_matter():
    values = every(70001)
    np.testing.assert_array_equal(exponentials(values), exponentials(values, _exponentials_by_four))
