"""The largest cell of each sample: of its sites, and of the background if it has an inactive cell; NaN wins."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse.sites import ActiveSites


class GlobalMax(Function):
    """The maximum over the cells of each sample; of equal cells the first in row-major order."""

    def __init__(self, sites: ActiveSites):
        super().__init__()
        self.sites = sites

    def forward(self, features: Any, background: Any) -> Any:
        xp = array_module(features)
        sites, splits = self.sites, self.sites.batch_splits
        result, rows = launch("segment_max", xp.ascontiguousarray(features), splits)
        fallback = xp.zeros(result.shape[1], result.dtype) if background is None else background
        fallback_wins = rows < 0
        if background is not None:
            self.shared = background.ndim == 1  # by all samples; else (B, C)
            full = (xp.diff(splits) == sites.cells)[:, None]
            comes_first = rows - splits[:-1, None] >= self._first_inactive_cells()[:, None]
            fallback_wins |= ~full & _wins(background, result, comes_first)
        self.shape = features.shape
        self.save(xp.where(fallback_wins, -1, rows))
        return xp.where(fallback_wins, fallback, result)

    def _first_inactive_cells(self) -> Any:
        """(B,) int64: the first inactive cell of each sample, which is also the number of sites before it."""
        sites = self.sites
        xp = array_module(sites.keys)
        batch = sites.coordinates[:, 0].astype(np.int64)
        cell = sites.keys - batch * sites.cells
        row_in_sample = xp.arange(len(sites)) - sites.batch_splits[batch]
        leading = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(cell == row_in_sample)])
        return leading[sites.batch_splits[1:]] - leading[sites.batch_splits[:-1]]

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        (rows,) = self.saved
        xp = array_module(gradient)
        features_gradient = background_gradient = None
        if self.needs[0]:
            features_gradient = xp.zeros(self.shape, gradient.dtype)
            sample, channel = xp.nonzero(rows >= 0)
            features_gradient[rows[sample, channel], channel] = gradient[sample, channel]
        if self.needs[1]:
            of_samples = xp.where(rows < 0, gradient, gradient.dtype.type(0))
            background_gradient = of_samples.sum(axis=0) if self.shared else of_samples
        return features_gradient, background_gradient


def _wins(value: Any, best: Any, comes_first: Any) -> Any:
    """Whether `value` wins against `best`: the larger does, NaN is the largest; of equal ones the first wins."""
    value_is_nan, best_is_nan = value != value, best != best
    larger = (value > best) | (value_is_nan & ~best_is_nan)
    equal = (value == best) | (value_is_nan & best_is_nan)
    return larger | (equal & comes_first)
