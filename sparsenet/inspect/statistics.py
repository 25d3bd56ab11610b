"""Statistics of a layer's values."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.nn.activations import Activation


def statistics(record: Activation) -> dict[str, Any]:
    """Plain numbers about one layer, for tables and files; None for those that do not apply.

    index, name, operation, settings, seconds : as in the record
    spatial_size (D,), channels, sites, active_fraction, pairs, multiply_adds, dense_multiply_adds
    parameters : number of elements of the layer's parameters
    feature_bytes : size of the output's features and background
    saved_bytes : size of what the layer saved for the backward pass, each array at the layer that saved it first;
        parameters and rulebooks do not count
    rulebook_bytes : size of the rulebook's neighbours, int32 (M, K)
    mean, std, minimum, maximum : over all rows and channels of the features
    dead_channels : share of the channels with the same value in every row, 0 to 1; they carry no
        information.  None for fewer than two rows
    background : the list of its (C,) values;  background_norm : their Euclidean norm
    gradient_norm, parameter_gradient_norm : Euclidean norms of the gradients of the features and of the
        layer's parameters; None before a backward pass
    """
    x, background = record.features, record.background
    rows, channels = _rows(x)
    neighbours = None if record.rulebook is None else record.rulebook.neighbours
    gradients = [p.grad for p in record.layer.parameters() if p.grad is not None]
    return {
        "index": record.index,
        "name": record.name,
        "operation": record.operation,
        "settings": record.layer.extra_repr(),
        "spatial_size": None if record.spatial_size is None else list(record.spatial_size),
        "channels": record.channels,
        "sites": None if record.sites is None else len(record.sites),
        "active_fraction": record.active_fraction,
        "pairs": record.pairs,
        "multiply_adds": record.multiply_adds,
        "dense_multiply_adds": record.dense_multiply_adds,
        "parameters": record.layer.parameter_count(),
        "feature_bytes": x.nbytes + (0 if background is None else background.nbytes),
        "saved_bytes": record.saved_bytes,
        "rulebook_bytes": None if neighbours is None else int(neighbours.nbytes),
        "seconds": record.seconds,
        "mean": float(x.mean(dtype=np.float64)) if x.size else None,
        "std": float(x.std(dtype=np.float64)) if x.size else None,
        "minimum": float(x.min()) if x.size else None,
        "maximum": float(x.max()) if x.size else None,
        "dead_channels": float((np.ptp(rows, axis=0) == 0).mean()) if len(rows) > 1 and channels else None,
        "background": None if background is None else background.tolist(),
        "background_norm": None if background is None else _norm([background]),
        "gradient_norm": None if record.gradient is None else _norm([record.gradient]),
        "parameter_gradient_norm": _norm(gradients) if gradients else None,
    }


def _rows(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Features as rows of channels (axis 1), and the number of channels (0 if there is no such axis)."""
    if x.ndim < 2:
        return x.reshape(-1, 1), 0
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]), x.shape[1]


def _norm(arrays: list[Any]) -> float:
    return float(sum(float((array.astype("float64") ** 2).sum()) for array in arrays)) ** 0.5
