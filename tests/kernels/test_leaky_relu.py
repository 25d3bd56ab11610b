"""Leaky ReLU kernels against NumPy."""

import numpy as np
import pytest
from cuda_host.storage import each_storage, in_half

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads


@each_storage
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (3000, 70)])
@pytest.mark.parametrize("slope", [0.33, 0.0, -0.5])
def test_forward_and_backward(launch, dtype, shape, slope):
    rng = np.random.default_rng(0)
    x, gradient = rng.standard_normal((2, *shape)).astype(dtype)
    x[x > 1.5] = 0
    wide = x.astype(np.float32) if dtype == np.float16 else x  # float16 is computed with in float32, and rounded once
    factor = wide.dtype.type(slope)
    assert np.array_equal(launch("leaky_relu_forward", x, slope), np.where(x > 0, x, wide * factor).astype(dtype))
    back = launch("leaky_relu_backward", x, gradient, slope)
    assert back.dtype == dtype
    expected = np.where(x > 0, gradient, gradient.astype(wide.dtype) * factor).astype(dtype)
    assert np.array_equal(back, expected)


@each_storage
@pytest.mark.parametrize(("shape", "background_shape"), [((0, 3), (1, 3)), ((7, 5), (1, 5)), ((7, 5), (2, 0)),
                                               ((1, 2), (3, 300))])
def test_a_background_comes_along(launch, dtype, shape, background_shape, rng):
    x, gradient = rng.standard_normal((2, *shape)).astype(dtype)
    background, below = rng.standard_normal((2, *background_shape)).astype(dtype)
    for found, alone in zip(launch("leaky_relu_forward", x, 0.33, background),
                            (launch("leaky_relu_forward", one, 0.33) for one in (x, background)), strict=True):
        assert found.dtype == dtype and np.array_equal(found, alone)
    for found, alone in zip(launch("leaky_relu_backward", x, gradient, 0.33, background, below),
                            (launch("leaky_relu_backward", *one, 0.33) for one in ((x, gradient), (background, below))),
                            strict=True):
        assert found.dtype == dtype and np.array_equal(found, alone)


@in_half
def test_every_number_of_16_bits_keeps_its_bits_where_it_is_positive(launch, dtype):
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)[None]
    y = launch("leaky_relu_forward", x, 1.0)
    nan = np.isnan(x)
    assert np.array_equal(y[~nan].view(np.uint16), x[~nan].view(np.uint16)) and np.isnan(y[nan]).all()


def test_nan_and_infinity_pass_through(launch):
    x = np.array([[np.nan, np.inf, -np.inf, -0.0]])
    y = launch("leaky_relu_forward", x, 0.5)
    assert np.isnan(y[0, 0]) and y[0, 1] == np.inf and y[0, 2] == -np.inf and y[0, 3] == 0


def test_both_zeros_and_not_a_number_keep_their_signs():
    x = np.array([[0.0, -0.0, np.nan, -np.nan]], np.float32)
    y = kernels.launch("leaky_relu_forward", x, 0.5)
    assert np.signbit(y).tolist() == [[False, True, False, True]]


def test_the_same_bits_for_any_number_of_threads(rng):
    x, gradient = rng.standard_normal((2, 900, 700)).astype(np.float32)  # several blocks, in memory used again
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            y = kernels.launch("leaky_relu_forward", x, 0.33)
            results.add(y.tobytes() + kernels.launch("leaky_relu_backward", y, gradient, 0.33).tobytes())
    finally:
        set_num_threads(before)
    assert len(results) == 1
