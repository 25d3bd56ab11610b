"""Softmax kernels against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host.storage import each_storage

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads

SHAPES = [(0, 3), (3, 0), (1, 1), (5, 1), (33, 3), (7, 16), (40, 17), (3, 32), (5, 70), (2, 300)]
TOLERANCE = {"float16": 1e-3, "float32": 1e-6, "float64": 1e-14}


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=1, keepdims=True)


@each_storage
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(launch, dtype, shape, rng):
    x, gradient = (3 * rng.standard_normal((2, *shape))).astype(dtype)
    y = launch("softmax_forward", x)
    back = launch("softmax_backward", y, gradient)
    assert y.dtype == back.dtype == dtype and y.shape == back.shape == shape
    expected, tolerance = softmax(x.astype(np.float64)), TOLERANCE[dtype.name]
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=1e-7 if dtype == np.float16 else 0)
    slopes = expected * (gradient - (expected * gradient).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(back, slopes, rtol=0, atol=4 * tolerance * np.abs(gradient).max(initial=0))


@each_storage
@pytest.mark.parametrize("shapes", [((0, 3), (1, 3)), ((7, 5), (2, 5)), ((1, 40), (30, 40))], ids=str)
def test_a_background_comes_along(launch, dtype, shapes, rng):
    (x, gradient), (background, below) = (rng.standard_normal((2, *shape)).astype(dtype) for shape in shapes)
    for found, one in zip(launch("softmax_forward", x, background), (x, background), strict=True):
        assert found.dtype == dtype and np.array_equal(found, launch("softmax_forward", one))
    for found, pair in zip(launch("softmax_backward", x, gradient, background, below),
                           ((x, gradient), (background, below)), strict=True):
        assert found.dtype == dtype and np.array_equal(found, launch("softmax_backward", *pair))


def test_large_numbers_and_infinities(launch, dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[3e38, 3e38, -3e38], [-1e30, -2e30, -1e30], [0, -inf, 0], [-inf, 5, -inf], [-inf] * 3, [0, inf, 1],
                  [1, nan, 2], [nan, 1, 2]], dtype)
    with np.errstate(all="raise"):
        y = launch("softmax_forward", x)
    expected = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0.5, 0, 0.5], [0, 1, 0], *[[nan] * 3] * 4]
    np.testing.assert_array_equal(y, np.array(expected))


def test_the_same_bits_wherever_a_row_lies_and_for_any_number_of_threads(rng, dtype):
    x, gradient = rng.standard_normal((2, 4000, 37)).astype(dtype)  # several blocks
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            y, back = kernels.launch("softmax_forward", x), kernels.launch("softmax_backward", x, gradient)
            results.add(y.tobytes() + back.tobytes())
    finally:
        set_num_threads(before)
    assert len(results) == 1
    for rows in (slice(3, 4), slice(17, 40), slice(3990, 4000)):
        assert np.array_equal(kernels.launch("softmax_forward", x[rows]), y[rows])
        assert np.array_equal(kernels.launch("softmax_backward", x[rows], gradient[rows]), back[rows])
