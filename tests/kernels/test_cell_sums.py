"""Sums and means over cells, against the dense grid in float64."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage

CELLS = 8


@each_storage
@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("background_rows", [0, 1, 3])
def test_against_the_dense_grid(launch, dtype, mean, background_rows, rng):
    splits = np.array([0, 3, 3, 11])  # an empty sample, and a full one
    features = rng.integers(-3, 4, (11, 5)).astype(dtype)
    background = rng.integers(-3, 4, (background_rows, 5)).astype(dtype) if background_rows else None
    gradient = rng.integers(-3, 4, (3, 5)).astype(dtype)
    samples = np.repeat(np.arange(3), np.diff(splits))
    coordinates = np.stack([samples, np.arange(11)], axis=1).astype(np.int32)
    sums = np.add.reduceat(np.vstack([features, np.zeros((1, 5))]), np.minimum(splits[:-1], 11)).astype(np.float64)
    sums[1] = 0
    found = launch("cell_sums", features, splits, background, CELLS, mean)
    to_sites, to_background = launch("cell_sums_backward", gradient, splits, coordinates, background_rows, CELLS, mean)
    inactive, divisor = CELLS - np.diff(splits)[:, None], np.ones((3, 1))
    if mean:
        divisor[:] = CELLS if background_rows else np.array([[3], [1], [8]])
    below = np.zeros((1, 5)) if background is None else background.astype(np.float64)
    reference.assert_close(found, (sums + inactive * below) / divisor)
    share = gradient / divisor
    reference.assert_close(to_sites, share[samples])
    assert found.dtype == to_sites.dtype == dtype
    if background_rows:
        of_samples = share * inactive
        reference.assert_close(to_background, of_samples if background_rows == 3 else of_samples.sum(axis=0)[None])
    else:
        assert to_background is None
