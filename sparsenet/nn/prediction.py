"""What a network gives for a dataset, batch after batch, as one array."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import Tensor, no_grad

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.nn.network import SparseNetwork

POSES = {"first": "first", "mean": "all"}  # of an object -> which samples the loader is asked for


def mean_rows(operation: str, net: SparseNetwork, rows: Callable[[Any], np.ndarray], dataset: SparseDataset,
              batch_size: int, poses: str, repetitions: int, **options: Any) -> np.ndarray:
    """The mean of `rows(batch)` over passes and poses, a row for each object: (O, C) float64.

    net : in evaluation mode and without a graph meanwhile
    rows : batch -> (B, C)
    poses : "first": an object's first pose; "mean": the mean over all of them
    repetitions : passes; pass r draws its augmentation as epoch r
    options : for `dataset.batches`; field and geometries are the network's where not given

    Raises ValueError for unknown poses, or less than one repetition; TypeError for what is not a dataset.
    """
    if not hasattr(dataset, "batches"):
        raise TypeError(f"{operation}: dataset is {type(dataset).__name__}, expected a SparseDataset: call the network "
                        "itself with a SparseBatch or SparseTensor, net.eval()(x)")
    if poses not in POSES or repetitions < 1:
        raise ValueError(f"{operation}: poses is {poses!r}, repetitions {repetitions}: expected one of "
                         f"{', '.join(POSES)}, and at least 1")
    options = {"field": net.field, "geometries": net.geometries(), **options}
    total: Any = 0.0
    with no_grad(), net.evaluating():
        for epoch in range(repetitions):
            batches = dataset.batches(batch_size, poses=POSES[poses], epoch=epoch, **options)
            given = [rows(batch).astype(np.float64) for batch in batches]
            total = total + np.concatenate(given or [np.zeros((0, net.out_channels))])
    if poses == "mean" and len(total):
        total = np.stack([total[samples].mean(axis=0) for samples in dataset.object_samples])
    return total / repetitions


def output_rows(net: Callable[[Any], Any], batch: Any, probabilities: bool) -> np.ndarray:
    """The network's rows (B, C) as float64, or their softmax.

    Raises ValueError where the network does not give one row per sample.
    """
    result = net(batch)
    if not isinstance(result, Tensor) or result.ndim != 2:
        raise ValueError("predict: the network gives no row per sample: add a GlobalPool or Linear layer")
    logits = result.numpy().astype(np.float64)
    return softmax(logits) if probabilities else logits


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows (B, C) of numbers as rows of probabilities."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
