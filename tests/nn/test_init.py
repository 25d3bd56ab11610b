"""First weights: the bound of the paper's code, and the seeds."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from sparsenet.nn import init
from sparsenet.sparse import Geometry


@pytest.mark.parametrize(("size", "stride", "pool", "factor"), [
    (2, 1, 3, 4 / 9),  # before a 3-pool
    (2, 1, None, 4),  # the last convolution
    (1, 1, None, 1),
    (3, 3, None, 1),
])
@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_factor_of_cubes_is_the_square_of_size_over_stride_over_pool(size, stride, pool, factor, dimension):
    geometry = Geometry.make(dimension, size, stride)
    assert init.fan_out_factor(geometry, pool and (pool,) * dimension) == pytest.approx(factor)


def test_factor_of_uneven_filters_goes_by_the_geometric_mean():
    assert init.fan_out_factor(Geometry.make(2, (4, 1), (1, 2))) == pytest.approx(2)


def test_bound():
    assert init.weight_bound(32 * 8, 64, 4 / 9) == pytest.approx(sqrt(6 / (32 * 8 + 64 * 4 / 9)))


def test_uniform_fills_its_range_and_nothing_else():
    values = init.uniform((100, 100), 0.25, rng=0)
    assert values.requires_grad and values.dtype == np.float32
    assert np.abs(values.array).max() <= 0.25
    assert abs(values.array.mean()) < 0.005
    assert values.array.std() == pytest.approx(0.25 / sqrt(3), rel=0.02)


def test_seeds():
    draw = [init.uniform((9,), 1.0, rng).array.tolist() for rng in (4, np.random.default_rng(4), 5, None, None)]
    assert draw[0] == draw[1] != draw[2]
    assert draw[3] != draw[4]
