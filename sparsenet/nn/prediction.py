"""The outputs of a network for a dataset, or for a single batch: a row for each sample, or one for each site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from sparsenet.autograd import Tensor, no_grad
from sparsenet.backend import to_device
from sparsenet.sparse import SparseTensor


class Predictor(Protocol):
    """The part of a SparseNetwork that a prediction needs; it stands here because network.py imports this module."""

    field: Any
    out_channels: int

    def geometries(self) -> list[Any]: ...

    def evaluating(self) -> AbstractContextManager: ...


SITE_OUTPUTS = ("labels", "probabilities", "raw")
SITE_OPTIONS = ("field", "workers", "device")
POSES = {"first": "first", "mean": "all", "max": "all", "all": "all"}  # -> poses requested from the loader


def mean_rows(operation: str, net: Predictor, rows: Callable[[Any], np.ndarray], shapes: Any,
              batch_size: int, poses: str | Sequence[int], repetitions: int, **options: Any) -> np.ndarray:
    """The mean of `rows(batch)` over passes and poses, a row for each object: (O, C) float64.

    net : runs in evaluation mode and without a graph; its mode is restored
    rows : batch -> (B, C)
    shapes : SparseDataset, or an object with its `batches` and `object_samples`; or one SparseBatch or SparseTensor,
        which is run once as it is and counts as B objects of one pose
    poses : "first": an object's first pose; "mean": the mean over its poses; "max": the greatest of each number;
        numbers of poses: the mean over these; "all": a row for each sample, in their order
    repetitions : number of passes; pass r draws its augmentation as epoch r
    options : for `dataset.batches`; field and geometries default to the network's

    Raises
    ------
    TypeError : another type of shapes; an option, or more than one repetition, with a single batch.
    ValueError : unknown poses, an object without one of them, repetitions below 1, or NaN or infinity in the output.
    """
    numbers = _checked_poses(operation, poses)
    if repetitions < 1:
        raise ValueError(f"{operation}: repetitions is {repetitions}, expected at least 1")
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
    if numbers is not None:
        shapes, poses = with_poses(shapes, numbers, operation), "mean"
    options = {"field": net.field, "geometries": net.geometries(), **options}
    total: Any = 0.0
    with no_grad(), net.evaluating():
        for epoch in range(repetitions):
            batches = shapes.batches(batch_size, poses=POSES[str(poses)], epoch=epoch, **options)
            found = [rows(batch).astype(np.float64) for batch in batches]
            total = total + np.concatenate(found or [np.zeros((0, net.out_channels))])
    if poses in ("mean", "max") and len(total):
        combine = np.mean if poses == "mean" else np.max
        total = np.stack([combine(total[samples], axis=0) for samples in shapes.object_samples])
    return _checked(operation, total / repetitions, shapes, poses == "all")


def with_poses(shapes: Any, numbers: Sequence[int], operation: str) -> Any:
    """The samples of a dataset that have these pose numbers, its objects in the same order.

    Raises ValueError if an object lacks one of them, or one occurs twice.
    """
    _checked_poses(operation, numbers)
    kept = []
    for samples in shapes.object_samples:
        there = shapes.pose[samples]
        absent = [number for number in numbers if number not in there]
        if absent:
            raise ValueError(f"{operation}: the object {str(shapes.names[samples[0]])!r} has no pose {absent[0]}, only "
                             f"{', '.join(map(str, there.tolist()))}: name poses that all objects have, or use 'mean'")
        kept.append(samples[np.isin(there, numbers)])
    return shapes.select(np.concatenate(kept) if kept else [])


def _checked_poses(operation: str, poses: Any) -> Sequence[int] | None:
    """The pose numbers, if poses are given by number, else None."""
    if isinstance(poses, str):
        if poses not in POSES:
            raise ValueError(f"{operation}: poses is {poses!r}, expected one of {', '.join(POSES)}, or a list of pose "
                             "numbers")
        return None
    numbers = list(poses) if isinstance(poses, Sequence | np.ndarray) else []
    if not numbers or not all(isinstance(n, int | np.integer) and n >= 0 for n in numbers) or (
            len(set(numbers)) < len(numbers)):
        raise ValueError(f"{operation}: poses is {poses!r}, expected one of {', '.join(POSES)}, or distinct pose "
                         "numbers such as [0, 4, 8]")
    return numbers


def is_batch(shapes: Any) -> bool:
    """Whether it is a SparseBatch or a SparseTensor."""
    return isinstance(getattr(shapes, "input", shapes), SparseTensor)


def _checked(operation: str, found: np.ndarray, dataset: Any, each_sample: bool = False) -> np.ndarray:
    """The rows (O, C), if all fit into float32.  Raises ValueError, which names the first shape whose row does not."""
    good = (np.abs(found) <= np.finfo(np.float32).max).all(axis=1)  # False for NaN too
    if good.all():
        return found
    first = int(np.argmin(good))
    name = ""
    if hasattr(dataset, "names"):
        name = f" ({str(dataset.names[first if each_sample else dataset.object_samples[first][0]])!r})"
    raise ValueError(f"{operation}: the network gives NaN or infinite numbers for {np.count_nonzero(~good)} of "
                     f"{len(found)} shapes, first for shape {first}{name}: has the training diverged?")


def output_rows(net: Callable[[Any], Any], batch: Any, probabilities: bool, offsets: np.ndarray | None = None,
                operation: str = "predict") -> np.ndarray:
    """The network's rows (B, C) as float64, or their softmax.

    offsets : (C,) float64, added to each row before the softmax

    Raises ValueError if the network does not return one row per sample, or the offsets are not one per class.
    """
    result = net(batch)
    if not isinstance(result, Tensor) or result.ndim != 2:
        raise ValueError(f"{operation}: the network does not give one row per sample: add a GlobalPool or Linear layer")
    check_rows(operation, batch, result, "the network")
    logits = result.numpy().astype(np.float64)
    if offsets is not None:
        if offsets.shape != logits.shape[1:]:
            raise ValueError(f"{operation}: logit_offsets have shape {offsets.shape}, expected {logits.shape[1:]}: one "
                             "for each class")
        logits = logits + offsets
    return softmax(logits) if probabilities else logits


def check_rows(operation: str, batch: Any, rows: Any, what: str) -> None:
    """Raise ValueError unless there is one row for each sample of the batch, instead of one for each image of it."""
    samples = getattr(batch, "input", batch).batch_size
    if rows.shape[0] != samples:
        raise ValueError(f"{operation}: {what} gives {rows.shape[0]} rows for {samples} samples, expected one each: "
                         "behind DepthImages, an ImagePool makes one of those of the images")


def site_rows(operation: str, net: Predictor, shapes: Any, output: str, batch_size: int, **options: Any) -> Any:
    """The output of the network for each site, as `SparseNetwork.predict_sites` returns it; see there."""
    if output not in SITE_OUTPUTS:
        raise ValueError(f"{operation}: output is {output!r}, expected one of {', '.join(map(repr, SITE_OUTPUTS))}")
    with no_grad(), net.evaluating():
        if is_batch(shapes):
            if options:
                raise TypeError(f"{operation}: {', '.join(options)} given with a single batch, expected a "
                                "SparseDataset: a batch is run once, as it is")
            return _of_sites(operation, net, shapes, output)
        if not hasattr(shapes, "batches"):
            raise TypeError(f"{operation}: got {type(shapes).__name__}, expected a SparseDataset, SparseBatch or "
                            "SparseTensor")
        moved = [name for name in options if name not in SITE_OPTIONS]
        if moved:
            raise TypeError(f"{operation}: {', '.join(moved)} given, expected at most {', '.join(SITE_OPTIONS)}: the "
                            "cells are those that are stored")
        options = {"field": net.field, "geometries": net.geometries(), **options}
        found: list[np.ndarray] = []
        with shapes.batches(batch_size, poses="all", **options) as batches:
            for batch in batches:
                if batch.dropped.any():
                    lost = int(batch.sample_ids[batch.dropped.argmax()])
                    raise ValueError(f"{operation}: {batch.dropped.max()} cells of sample {lost} "
                                     f"({str(shapes.names[lost])!r}) lie outside the field {batch.input.spatial_size}: "
                                     "give a larger one, field=...")
                found += by_sample(batch.input, _of_sites(operation, net, batch, output))
        return found


def by_sample(x: SparseTensor, rows: np.ndarray) -> list[np.ndarray]:
    """Rows (N, ...) of the sites on the host, sample by sample."""
    return np.split(rows, to_device(x.sites.batch_splits, "cpu")[1:-1])


def _of_sites(operation: str, net: Any, batch: Any, output: str) -> np.ndarray:
    """(N,) int64 labels, or (N, C) float32, in the order of the sites of the input."""
    x, y = getattr(batch, "input", batch), net(batch)
    if not isinstance(y, SparseTensor) or y.sites is not x.sites:
        got = f"{y!r}" if isinstance(y, SparseTensor) else "one row per sample"
        raise ValueError(f"{operation}: the network gives {got}, expected a row for each of the {len(x)} sites of its "
                         "input: end it with layers that keep these or go back to them, as sn.unet does")
    logits = y.features.numpy().astype(np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"{operation}: the network gives NaN or infinite numbers: has the training diverged?")
    if output == "labels":
        return logits.argmax(axis=1)
    return (softmax(logits) if output == "probabilities" and len(logits) else logits).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row of (B, C) logits."""
    with np.errstate(invalid="ignore"):  # infinite logits give NaN
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
