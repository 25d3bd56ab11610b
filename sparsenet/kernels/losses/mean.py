"""The mean over the rows of a batch, from the sums of blocks."""

from __future__ import annotations

import numpy as np


def mean_on_host(sums: np.ndarray, rows: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The loss () and its figures (2,) float64, from the sums (blocks, 2) of the terms and of the counts."""
    total, count = sums.sum(axis=0)
    loss = np.array(total / max(1, rows)).astype(dtype)
    return loss, np.array([loss, count], np.float64)
