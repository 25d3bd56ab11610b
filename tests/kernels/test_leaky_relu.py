"""Leaky ReLU kernels against NumPy."""

import numpy as np
import pytest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (3000, 70)])
@pytest.mark.parametrize("slope", [0.33, 0.0, -0.5])
def test_forward_and_backward(launch, dtype, shape, slope):
    rng = np.random.default_rng(0)
    x, gradient = rng.standard_normal((2, *shape)).astype(dtype)
    x[x > 1.5] = 0
    factor = dtype(slope)
    assert np.array_equal(launch("leaky_relu_forward", x, slope), np.where(x > 0, x, x * factor))
    back = launch("leaky_relu_backward", x, gradient, slope)
    assert back.dtype == dtype
    assert np.array_equal(back, np.where(x > 0, gradient, gradient * factor))


def test_nan_and_infinity_pass_through(launch):
    x = np.array([[np.nan, np.inf, -np.inf, -0.0]])
    y = launch("leaky_relu_forward", x, 0.5)
    assert np.isnan(y[0, 0]) and y[0, 1] == np.inf and y[0, 2] == -np.inf and y[0, 3] == 0
