"""Soft shrinkage kernels against plain loops, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host.storage import each_storage

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads

LIMIT = 0.5  # a number that each dtype holds


def looped(x, gradient, limit):
    """Forward and backward by plain loops, in float64."""
    out, back = np.zeros((2, *x.shape))
    for index, value in np.ndenumerate(x.astype(np.float64)):
        if value > limit:
            out[index], back[index] = value - limit, gradient[index]
        if value < -limit:
            out[index], back[index] = value + limit, gradient[index]
    return out, back


@each_storage
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (300, 33)], ids=str)
@pytest.mark.parametrize("limit", [LIMIT, 0.0])
def test_forward_and_backward(launch, dtype, shape, limit, rng):
    x, gradient = rng.standard_normal((2, *shape)).astype(dtype)
    x.reshape(-1)[::4] = limit  # the limits themselves become 0
    before = x.copy()
    expected = [one.astype(dtype) for one in looped(x, gradient, limit)]  # differences are exact up to one rounding
    y, back = launch("soft_shrink_forward", x, limit), launch("soft_shrink_backward", x, gradient, limit)
    assert y.dtype == back.dtype == dtype and np.array_equal(x, before)
    np.testing.assert_allclose(y, expected[0], rtol=np.finfo(dtype).eps, atol=0)
    assert np.array_equal(back, expected[1])


def test_nan_and_infinity(launch):
    y = launch("soft_shrink_forward", np.array([[np.nan, np.inf, -np.inf]]), LIMIT)
    assert np.isnan(y[0, 0]) and y[0, 1] == np.inf and y[0, 2] == -np.inf


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_negative_limit_is_refused(launch, limit):
    with pytest.raises(ValueError, match="soft_shrink_forward: limit is .*, expected 0 or more"):
        launch("soft_shrink_forward", np.ones((1, 1)), limit)


def test_the_same_bits_for_any_number_of_threads(rng):
    x, gradient = rng.standard_normal((2, 900, 700), np.float32)  # several blocks
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            y = kernels.launch("soft_shrink_forward", x, LIMIT)
            results.add(y.tobytes() + kernels.launch("soft_shrink_backward", x, gradient, LIMIT).tobytes())
    finally:
        set_num_threads(before)
    assert len(results) == 1
