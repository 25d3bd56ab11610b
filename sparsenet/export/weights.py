"""Weights in the layouts of PyTorch and spconv; `docs/weights.md` lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def weight_from_torch(weight: Any) -> np.ndarray:
    """A weight of PyTorch's `ConvNd`, (C_out, C_in / groups, *size), as (K, C_in / groups, C_out)."""
    weight = np.asarray(weight)
    return np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2))).reshape(-1, weight.shape[1], weight.shape[0])


def weight_to_torch(weight: Any, size: Sequence[int]) -> np.ndarray:
    """(K, C_in / groups, C_out) as a weight of PyTorch's `ConvNd`, (C_out, C_in / groups, *size).

    Raises ValueError if size has not K cells.
    """
    weight = np.asarray(weight)
    return np.ascontiguousarray(np.moveaxis(weight.reshape(*size, *weight.shape[1:]), (-1, -2), (0, 1)))
