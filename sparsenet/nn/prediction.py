"""A network's outputs for a dataset, batch after batch, or for a single batch, as one array."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from sparsenet.autograd import Tensor, no_grad
from sparsenet.sparse import SparseTensor


class Predictor(Protocol):
    """The part of a SparseNetwork that a prediction needs; it stands here because network.py imports this module."""

    field: Any
    out_channels: int

    def geometries(self) -> list[Any]: ...

    def evaluating(self) -> AbstractContextManager: ...


POSES = {"first": "first", "mean": "all"}  # of an object -> which samples the loader is asked for


def mean_rows(operation: str, net: Predictor, rows: Callable[[Any], np.ndarray], shapes: Any,
              batch_size: int, poses: str, repetitions: int, **options: Any) -> np.ndarray:
    """The mean of `rows(batch)` over passes and poses, a row for each object: (O, C) float64.

    net : in evaluation mode and without a graph meanwhile
    rows : batch -> (B, C)
    shapes : SparseDataset, or what has its `batches` and `object_samples`; or one SparseBatch or SparseTensor,
        which is run once as it is and has B objects of one pose
    poses : "first": an object's first pose; "mean": the mean over all of them
    repetitions : passes; pass r draws its augmentation as epoch r
    options : for `dataset.batches`; field and geometries are the network's if not given

    Raises
    ------
    TypeError : shapes are none of these; an option, or more than one repetition, for a single batch.
    ValueError : unknown poses, less than one repetition, or a network that gives NaN or infinite numbers.
    """
    if poses not in POSES or repetitions < 1:
        raise ValueError(f"{operation}: poses is {poses!r}, repetitions {repetitions}: expected one of "
                         f"{', '.join(POSES)}, and at least 1")
    if is_batch(shapes):
        given = [name for name, value in options.items() if value] + ["repetitions"] * (repetitions > 1)
        if given:
            raise TypeError(f"{operation}: {', '.join(given)} given with a single batch, expected a SparseDataset: "
                            "a batch is run once, as it is")
        with no_grad(), net.evaluating():
            return _checked(operation, rows(shapes).astype(np.float64), None)
    if not hasattr(shapes, "batches"):
        raise TypeError(f"{operation}: got {type(shapes).__name__}, expected a SparseDataset, SparseBatch or "
                        "SparseTensor")
    options = {"field": net.field, "geometries": net.geometries(), **options}
    total: Any = 0.0
    with no_grad(), net.evaluating():
        for epoch in range(repetitions):
            batches = shapes.batches(batch_size, poses=POSES[poses], epoch=epoch, **options)
            found = [rows(batch).astype(np.float64) for batch in batches]
            total = total + np.concatenate(found or [np.zeros((0, net.out_channels))])
    if poses == "mean" and len(total):
        total = np.stack([total[samples].mean(axis=0) for samples in shapes.object_samples])
    return _checked(operation, total / repetitions, shapes)


def is_batch(shapes: Any) -> bool:
    """Whether it is a SparseBatch or a SparseTensor."""
    return isinstance(getattr(shapes, "input", shapes), SparseTensor)


def _checked(operation: str, found: np.ndarray, dataset: Any) -> np.ndarray:
    """The rows (O, C), if float32 can hold them; the dataset is asked for the name of the first that it cannot."""
    good = (np.abs(found) <= np.finfo(np.float32).max).all(axis=1)  # False for NaN too
    if good.all():
        return found
    first = int(np.argmin(good))
    name = f" ({str(dataset.names[dataset.object_samples[first][0]])!r})" if hasattr(dataset, "names") else ""
    raise ValueError(f"{operation}: the network gives NaN or infinite numbers for {np.count_nonzero(~good)} of "
                     f"{len(found)} shapes, first for shape {first}{name}: has the training diverged?")


def output_rows(net: Callable[[Any], Any], batch: Any, probabilities: bool) -> np.ndarray:
    """The network's rows (B, C) as float64, or their softmax.

    Raises ValueError if the network does not give one row per sample.
    """
    result = net(batch)
    if not isinstance(result, Tensor) or result.ndim != 2:
        raise ValueError("predict: the network does not give one row per sample: add a GlobalPool or Linear layer")
    logits = result.numpy().astype(np.float64)
    return softmax(logits) if probabilities else logits


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows (B, C) of numbers as rows of probabilities."""
    with np.errstate(invalid="ignore"):  # infinite logits come out as NaN
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
