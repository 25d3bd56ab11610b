"""PReLU kernels against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host.storage import each_storage, in_half, precise

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.activations.cuda import CUDA_CHUNK

each_number_of_slopes = pytest.mark.parametrize("shared", [True, False], ids=["one slope", "slopes of channels"])


def inputs(rng, dtype, shape, backgrounds, shared):
    """x, gradient, slope, background and its gradient; some of x is 0."""
    channels = shape[1]
    x, gradient = rng.standard_normal((2, *shape)).astype(dtype)
    x[x > 1.5] = 0
    slope = (0.5 * rng.standard_normal(1 if shared else channels)).astype(dtype)
    below = rng.standard_normal((2, backgrounds, channels)).astype(dtype) if backgrounds else (None, None)
    return x, gradient, slope, *below


@each_storage
@each_number_of_slopes
@pytest.mark.parametrize("backgrounds", [0, 1, 3])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (9, 16), (130, 37)], ids=str)
def test_values_and_gradients(launch, dtype, shape, backgrounds, shared, rng):
    x, gradient, slope, background, below = given = inputs(rng, dtype, shape, backgrounds, shared)
    before = [None if array is None else array.copy() for array in given]
    found = launch("prelu_forward", x, slope, background)
    back, under, by_slope = launch("prelu_backward", x, gradient, slope, background, below)
    pairs, total = [(x, gradient)], 0
    if backgrounds:
        pairs.append((background, below))
    else:
        assert under is None
    tolerance = {"float16": 1e-3, "float32": 2e-7, "float64": 1e-15}[dtype.name]
    subnormal = 6e-8 if dtype == np.float16 else 0
    for (values, gradients), y, slant in zip(pairs, found if backgrounds else (found,), (back, under), strict=False):
        v, g, s = precise(values, gradients, slope)
        assert y.dtype == slant.dtype == dtype
        np.testing.assert_allclose(y, np.where(v > 0, v, s * v), rtol=tolerance, atol=subnormal)
        np.testing.assert_allclose(slant, np.where(v > 0, g, s * g), rtol=tolerance, atol=subnormal)
        total = total + np.where(v > 0, 0, v * g).sum(axis=0)
    expected = total.sum(keepdims=True) if shared else total
    assert by_slope.dtype == dtype and by_slope.shape == slope.shape
    np.testing.assert_allclose(by_slope, expected, rtol=tolerance, atol=20 * tolerance)
    assert all(one is two or np.array_equal(one, two) for one, two in zip(given, before, strict=True))


@each_number_of_slopes
@pytest.mark.parametrize(("rows", "backgrounds"), [(CUDA_CHUNK, 1), (2 * CUDA_CHUNK + 5, 0), (3, CUDA_CHUNK + 1)])
def test_more_rows_than_a_chunk(launch, rows, backgrounds, shared, rng):
    x, gradient, slope, background, below = inputs(rng, np.dtype("float64"), (rows, 40), backgrounds, shared)
    *_, by_slope = launch("prelu_backward", x, gradient, slope, background, below)
    total = np.where(x > 0, 0, x * gradient).sum(axis=0)
    if backgrounds:
        total += np.where(background > 0, 0, background * below).sum(axis=0)
    np.testing.assert_allclose(by_slope, total.sum(keepdims=True) if shared else total, rtol=1e-11, atol=1e-11)


@in_half
@each_number_of_slopes
def test_sums_of_float16_are_not_of_float16(launch, dtype, shared):
    x = np.full((5000, 1 if shared else 2), -1, dtype)
    *_, by_slope = launch("prelu_backward", x, x, np.ones(x.shape[1], dtype))
    assert by_slope.tolist() == [5000] * x.shape[1]


def test_nan_and_infinity_pass_through(launch):
    x, slope = np.array([[np.nan, np.inf, -np.inf, -0.0]]), np.array([0.5])
    assert np.array_equal(launch("prelu_forward", x, slope), [[np.nan, np.inf, -np.inf, 0]], equal_nan=True)
    back, _, by_slope = launch("prelu_backward", x, np.ones_like(x), slope)
    assert back.tolist() == [[0.5, 1, 0.5, 0.5]] and np.isnan(by_slope).all()


@each_number_of_slopes
def test_the_same_bits_for_any_number_of_threads(shared, rng):
    x, gradient, slope, background, below = inputs(rng, np.dtype("float32"), (20_000, 37), 2, shared)
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            found = (*kernels.launch("prelu_forward", x, slope, background),
                     *kernels.launch("prelu_backward", x, gradient, slope, background, below))
            results.add(b"".join(array.tobytes() for array in found))
    finally:
        set_num_threads(before)
    assert len(results) == 1


@pytest.mark.parametrize("kernel", ["prelu_forward", "prelu_backward"])
def test_another_number_of_slopes_is_refused(kernel):
    x = np.zeros((4, 3))
    with pytest.raises(ValueError, match=f"{kernel}: slope has 2 numbers, expected 1, or one for each of the 3 channe"):
        kernels.launch(kernel, *[x] * (1 if kernel == "prelu_forward" else 2), np.zeros(2))
