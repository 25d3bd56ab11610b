"""What a network gives for batch after batch, as one array."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor


def rows_of(net: Callable[[Any], Any], batches: Iterable[Any], probabilities: bool) -> list[np.ndarray]:
    """For each batch the network's rows (B, C) as float64, or their softmax.

    Raises ValueError where the network does not give one row per sample.
    """
    rows = []
    for batch in batches:
        result = net(batch)
        if not isinstance(result, Tensor) or result.ndim != 2:
            raise ValueError("predict: the network gives no row per sample: add a GlobalPool or Linear layer")
        logits = result.numpy().astype(np.float64)
        rows.append(softmax(logits) if probabilities else logits)
    return rows


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows (B, C) of numbers as rows of probabilities."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
