"""Sums and means over all cells of a sample: the inactive ones count as the background."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.rows.reference import segment_sum
from sparsenet.kernels.table import formula_of


@formula_of("cell_sums")
def cell_sums(features, splits, background, cells, mean):
    """(B, C): the sum over the sites of b + (cells - sites of b) * background; a mean divides by the cells summed."""
    sites, total = np.diff(splits)[:, None], segment_sum(features, splits)
    inactive = 0 if background is None else cells - sites
    total = total if background is None else total + inactive * background
    return (total / (np.maximum(1, sites + inactive) if mean else 1)).astype(features.dtype)


@formula_of("cell_sums_backward")
def cell_sums_backward(gradient, splits, coordinates, background_rows, cells, mean):
    """(N, C): gradient[b] / divisor at the sites of b; (G, C): (cells - sites of b) times as much, summed if G is 1."""
    sites = np.diff(splits)[:, None]
    inactive = cells - sites if background_rows else 0
    share = (gradient / (np.maximum(1, sites + inactive) if mean else 1)).astype(gradient.dtype)
    of_samples = (share * inactive).astype(gradient.dtype)
    to_background = of_samples.sum(axis=0, keepdims=True) if background_rows == 1 else of_samples
    return share[coordinates[:, 0]], to_background if background_rows else None
