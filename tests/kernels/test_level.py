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
    [(constant, activated, total, turned)] = launch("level_backgrounds", [weights], [bias], background, [SLOPE],
                                                    [backwards], True)
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
    [(constant, activated, total, turned)] = launch("level_backgrounds", [weights], [bias], None, [SLOPE], [False],
                                                    False)
    assert np.array_equal(constant, bias) and total is turned is None
    [(constant, activated, _, _)] = launch("level_backgrounds", [weights], [None], None, [SLOPE], [False], False)
    assert not constant.any() and not activated.any()


@each_storage
@pytest.mark.parametrize("with_background", [True, False])
@pytest.mark.parametrize("levels", [2, 11])
def test_the_background_goes_from_level_to_level(launch, dtype, levels, with_background, rng):
    """Of more levels than a launch takes, too; with other slopes, some without a bias, some with reversed offsets."""
    channels = [int(number) for number in rng.integers(1, 40, levels + 1)]
    offsets = [int(number) for number in rng.integers(1, 9, levels)]
    weights = [(rng.standard_normal(shape) / 8).astype(dtype) for shape in
               zip(offsets, channels[:-1], channels[1:], strict=True)]
    biases = [None if number % 3 == 1 else rng.standard_normal(count).astype(dtype)
              for number, count in enumerate(channels[1:])]
    background = rng.standard_normal(channels[0]).astype(dtype) if with_background else None
    slopes, backwards = [0.25 + number / 8 for number in range(levels)], [number % 2 == 1 for number in range(levels)]
    found = launch("level_backgrounds", weights, biases, background, slopes, backwards, True)
    u = np.zeros(channels[0]) if background is None else background.astype(np.float64)
    for weight, bias, slope, turned, one in zip(weights, biases, slopes, backwards, found, strict=True):
        constant, activated, total, transposed = one
        expected = u @ weight.astype(np.float64).sum(axis=0) + (0 if bias is None else bias.astype(np.float64))
        reference.assert_close(constant, expected)
        assert np.array_equal(activated, np.where(constant > 0, constant, constant * dtype.type(slope)))
        reference.assert_close(total, weight.astype(np.float64).sum(axis=0))
        assert np.array_equal(transposed, np.swapaxes(weight[::-1] if turned else weight, 1, 2))
        u = activated.astype(np.float64)


def test_levels_that_do_not_fit(launch):
    weights, others = np.zeros((8, 3, 5), "f4"), np.zeros((8, 4, 2), "f4")
    with pytest.raises(ValueError, match="level_backgrounds: level 2 has weights for 4 channels, expected 5: build"):
        launch("level_backgrounds", [weights, others], [None, None], None, [SLOPE] * 2, [False] * 2, True)
    with pytest.raises(ValueError, match="level_backgrounds: level 1 has weights for 3 channels, expected 2"):
        launch("level_backgrounds", [weights], [None], np.zeros(2, "f4"), [SLOPE], [False], True)
    with pytest.raises(ValueError, match=r"the bias of level 1 is float64 of shape \(5,\), expected float32 of shape"):
        launch("level_backgrounds", [weights], [np.zeros(5)], None, [SLOPE], [False], True)
    with pytest.raises(ValueError, match="1 weights, 1 biases, 2 slopes, 1 of reversed, expected one of each"):
        launch("level_backgrounds", [weights], [None], None, [SLOPE] * 2, [False], True)


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
