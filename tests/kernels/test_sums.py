"""The sum of two arrays: the bits of NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.kernels.sums import added


@pytest.mark.parametrize("shape", [(), (0, 3), (5, 4), (1 << 18,), (40_000, 32), (99_991, 3), (3, 5, 7, 16_000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
def test_equals_numpys(rng, shape, dtype):
    x, y = ((100 * rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    kept = x.copy(), y.copy()
    out, expected = np.asarray(added(x, y)), np.asarray(x + y)
    assert out.dtype == dtype and out.shape == shape and out.tobytes() == expected.tobytes()
    assert np.array_equal(kept[0], x) and np.array_equal(kept[1], y)


def test_of_views(rng):
    x = rng.standard_normal((1200, 1200))
    assert np.array_equal(added(x.T, x), x.T + x) and np.array_equal(added(x[::2], x[1::2]), x[::2] + x[1::2])


def test_gradients_of_several_uses_add_up(rng):
    import sparsenet as sn

    x = sn.Tensor(rng.standard_normal((20_000, 32)), requires_grad=True)
    weights = rng.standard_normal((3, *x.shape))
    sum((x * weight).sum() for weight in weights).backward()
    assert np.array_equal(x.grad, weights[2] + weights[1] + weights[0])
