"""The kernels of a level against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage, precise

SLOPE = 0.25


def leaky(x):
    return np.where(x > 0, x, SLOPE * x)


@each_storage
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("offsets", "c_in", "c_out"), [(8, 1, 5), (27, 40, 33), (1, 70, 9)])
def test_the_background_goes_through_a_convolution(launch, dtype, backwards, offsets, c_in, c_out, rng):
    weights, background, bias = (rng.standard_normal(shape).astype(dtype) for shape in
                                 ((offsets, c_in, c_out), c_in, c_out))
    constant, activated, total, turned = launch("level_background", weights, background, bias, SLOPE, backwards, True)
    u, w, b = precise(background, weights, bias)
    expected = u @ w.sum(axis=0) + b
    for found, wanted in ((constant, expected), (activated, leaky(expected)), (total, w.sum(axis=0))):
        assert found.dtype == dtype
        reference.assert_close(found, wanted)
    assert np.array_equal(turned, np.swapaxes(weights[::-1] if backwards else weights, 1, 2))
    assert np.array_equal(activated, np.where(constant > 0, constant, constant * dtype.type(SLOPE)))


@each_storage
def test_without_a_background_or_a_bias(launch, dtype, rng):
    weights, bias = rng.standard_normal((8, 3, 5)).astype(dtype), rng.standard_normal(5).astype(dtype)
    constant, activated, total, turned = launch("level_background", weights, None, bias, SLOPE, False, False)
    assert np.array_equal(constant, bias) and total is turned is None
    constant, activated, _, _ = launch("level_background", weights, None, None, SLOPE, False, False)
    assert not constant.any() and not activated.any()


def case(dtype, rows, channels, offsets, rng):
    """Windows that each hold some inputs, the argmax of each in each channel, and the table from the other side."""
    windows = rows // 2
    table = np.full((rows, offsets), -1, np.int32)
    for k in range(offsets):
        table[rng.permutation(rows)[:windows], k] = np.arange(windows)
    neighbours = np.full((windows, offsets), -1, np.int32)
    for n, k in np.argwhere(table >= 0):
        neighbours[table[n, k], k] = n
    argmax = rng.integers(0, offsets, (windows, channels)).astype(np.int16)
    gradient = rng.integers(-4, 5, (windows, channels)).astype(dtype)
    return table, neighbours, argmax, gradient


@each_storage
@pytest.mark.parametrize("with_background_gradient", [True, False])
@pytest.mark.parametrize(("rows", "channels", "offsets"), [(7, 5, 8), (40, 33, 27), (140, 5, 40)])
def test_the_gradient_on_its_way_through_pooling(launch, dtype, with_background_gradient, rows, channels, offsets, rng):
    table, neighbours, argmax, gradient = case(dtype, rows, channels, offsets, rng)
    activated = rng.integers(-2, 3, (rows, channels)).astype(dtype)
    constant = rng.integers(-2, 3, channels).astype(dtype)
    below = rng.integers(-3, 4, channels).astype(dtype) if with_background_gradient else None
    total = rng.integers(-2, 3, (6, channels)).astype(dtype)
    found = launch("level_gradient", gradient, argmax, table, activated, constant, below, SLOPE, total)
    arriving = np.zeros((rows, channels))
    for m, c in np.ndindex(argmax.shape):
        if neighbours[m, argmax[m, c]] >= 0:
            arriving[neighbours[m, argmax[m, c]], c] += gradient[m, c]
    check(found, arriving, activated, constant, (0 if below is None else below) - arriving.sum(axis=0), total, dtype)


@each_storage
@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (64, 70), (700, 7)])
def test_the_gradient_without_pooling(launch, dtype, rows, channels, rng):
    gradient = rng.integers(-2, 3, (rows, channels)).astype(dtype)
    activated = rng.integers(-2, 3, (rows, channels)).astype(dtype)
    constant, below = rng.integers(-2, 3, (2, channels)).astype(dtype)
    total = rng.integers(-2, 3, (9, channels)).astype(dtype)
    found = launch("level_gradient", gradient, None, None, activated, constant, below, SLOPE, total)
    check(found, gradient.astype(np.float64), activated, constant, below, total, dtype)
    *others, none = launch("level_gradient", gradient, None, None, activated, constant, below, SLOPE, None)
    assert none is None and all(np.array_equal(*pair) for pair in zip(others, found, strict=False))


def check(found, arriving, activated, constant, own, total, dtype):
    """Integers throughout, and a slope that divides them exactly: nothing is rounded on the way."""
    result = np.where(activated > 0, arriving, SLOPE * arriving)
    to_constant = result.sum(axis=0) + np.where(constant > 0, own, SLOPE * np.asarray(own, np.float64))
    for one, expected in zip(found, (result, to_constant, total.astype(np.float64) @ to_constant), strict=True):
        assert one.dtype == dtype
        reference.assert_close(one, expected)
    if dtype != np.float16:
        assert np.array_equal(found[0], result) and np.array_equal(found[1], to_constant)


@each_storage
@pytest.mark.parametrize("with_background_gradient", [True, False])
def test_no_rows(launch, dtype, with_background_gradient):
    nothing, constant = np.zeros((0, 3), dtype), np.array([1, 0, -1], dtype)
    below = np.array([4, 4, 4], dtype) if with_background_gradient else None
    found = launch("level_gradient", nothing, None, None, nothing, constant, below, SLOPE, np.ones((2, 3), dtype))
    expected = np.array([4, 1, 1]) * with_background_gradient
    assert found[0].shape == (0, 3) and np.array_equal(found[1], expected)
    assert np.array_equal(found[2], [expected.sum()] * 2)
