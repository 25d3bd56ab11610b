"""Sums or means over all cells of the grid of each sample, and back: see `ops.global_pool`.

    out[b] = (sum of the sites of b + (cells - sites of b) * background) / divisor

The divisor is 1; for a mean the number of cells, or without a background the sites, at least 1.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cell_sums.contract import CELL_SUMS as FORWARD
from sparsenet.kernels.cell_sums.contract import CELL_SUMS_BACKWARD as BACKWARD
from sparsenet.kernels.table import launch


def _counts(splits, cells, mean, with_background, dtype):
    """(B, 1) inactive cells and divisors."""
    active = np.diff(splits)[:, None]
    inactive = (cells - active).astype(dtype)
    counted = np.full_like(active, cells) if with_background else np.maximum(active, 1)
    return inactive, (counted if mean else np.ones_like(active)).astype(dtype)


@FORWARD.implementation("cpu")
def _forward_cpu(features, splits, background, cells, mean):
    """(B, C); background has 1 row or one for each sample."""
    sums = launch("segment_sum", features, splits)
    inactive, divisor = _counts(splits, cells, mean, background is not None, sums.dtype)
    total = sums if background is None else sums + inactive * background
    return total / divisor


@BACKWARD.implementation("cpu")
def _backward_cpu(gradient, splits, coordinates, background_rows, cells, mean):
    """(N, C) gradient of the features, and (G, C) of the background, which has G rows; None if G is 0."""
    inactive, divisor = _counts(splits, cells, mean, background_rows > 0, gradient.dtype)
    share = gradient / divisor
    to_sites = share[coordinates[:, 0]]
    if not background_rows:
        return to_sites, None
    of_samples = share * inactive
    return to_sites, of_samples if background_rows > 1 else of_samples.sum(axis=0, keepdims=True)
