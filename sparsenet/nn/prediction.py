"""The outputs of a network for a dataset, or for a single batch, as one array."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import Tensor, no_grad
from sparsenet.sparse import SparseTensor

if TYPE_CHECKING:
    from sparsenet.nn.network import SparseNetwork

POSES = {"first": "first", "mean": "all"}  # poses averaged -> poses requested from the loader


def mean_rows(operation: str, net: SparseNetwork, rows: Callable[[Any], np.ndarray], shapes: Any,
              batch_size: int, poses: str, repetitions: int, **options: Any) -> np.ndarray:
    """The mean of `rows(batch)` over passes and poses, a row for each object: (O, C) float64.

    net : runs in evaluation mode and without a graph; its mode is restored
    rows : batch -> (B, C)
    shapes : SparseDataset, or an object with its `batches` and `object_samples`; or one SparseBatch or SparseTensor,
        which is run once as it is and counts as B objects of one pose
    poses : "first": an object's first pose; "mean": the mean over its poses
    repetitions : number of passes; pass r draws its augmentation as epoch r
    options : for `dataset.batches`; field and geometries default to the network's

    Raises
    ------
    TypeError : another type of shapes; an option, or more than one repetition, with a single batch.
    ValueError : unknown poses, repetitions below 1, or NaN or infinity in the output.
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
    """The rows (O, C), if all fit into float32.  Raises ValueError, which names the first shape whose row does not."""
    good = (np.abs(found) <= np.finfo(np.float32).max).all(axis=1)  # False for NaN too
    if good.all():
        return found
    first = int(np.argmin(good))
    name = f" ({str(dataset.names[dataset.object_samples[first][0]])!r})" if hasattr(dataset, "names") else ""
    raise ValueError(f"{operation}: the network gives NaN or infinite numbers for {np.count_nonzero(~good)} of "
                     f"{len(found)} shapes, first for shape {first}{name}: has the training diverged?")


def output_rows(net: Callable[[Any], Any], batch: Any, probabilities: bool) -> np.ndarray:
    """The network's rows (B, C) as float64, or their softmax.

    Raises ValueError if the network does not return one row per sample.
    """
    result = net(batch)
    if not isinstance(result, Tensor) or result.ndim != 2:
        raise ValueError("predict: the network does not give one row per sample: add a GlobalPool or Linear layer")
    logits = result.numpy().astype(np.float64)
    return softmax(logits) if probabilities else logits


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row of (B, C) logits."""
    with np.errstate(invalid="ignore"):  # infinite logits give NaN
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
