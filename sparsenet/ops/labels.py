"""Validation of labels, common to the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Tensor, rectangular
from sparsenet.backend import array_module, device_of, to_device


def integer_labels(operation: str, labels: Any) -> Any:
    """Labels (a list, array or Tensor of any integer dtype) as an array of that dtype.

    Raises TypeError for anything else, ValueError for nested lists of different lengths; both name the operation.
    """
    labels = labels.array if isinstance(labels, Tensor) else labels
    if isinstance(labels, (list, tuple)):
        labels = rectangular(f"{operation}: labels", labels) if len(labels) else np.zeros(0, np.int64)
    kind = getattr(labels, "dtype", type(labels).__name__)
    if getattr(kind, "kind", "") not in ("i", "u"):
        raise TypeError(f"{operation}: labels are {kind}, expected integers: a list, an array or a Tensor, such as "
                        "numpy.asarray(labels, 'int64')")
    device_of(labels)  # raises TypeError for anything but an array
    return labels


def row_labels(operation: str, labels: Any, rows: Tensor, name: str) -> Any:
    """Labels, one for each of the rows, as an array of int64, on the host or on the device of the rows.

    name : of the rows, for messages, such as "logits"

    Raises TypeError and ValueError as `integer_labels` does, and ValueError for another shape.
    """
    labels = integer_labels(operation, labels)
    if labels.shape != rows.shape[:1]:
        raise ValueError(f"{operation}: labels have shape {labels.shape}, expected ({rows.shape[0]},), one for each "
                         f"row of {name}")
    return labels.astype(np.int64, copy=False)


def class_labels(operation: str, labels: Any, rows: Tensor, name: str, classes: int, owner: str) -> Any:
    """The same, each from 0 to classes - 1, on the device of the rows.

    owner : what has so many classes, for messages, such as "the logits have"

    Raises ValueError for a label out of range (the row is named), TypeError for labels on another device than the rows
    and not on the host.  Labels on the host are checked there, which does not wait for a GPU.
    """
    numbers = row_labels(operation, labels, rows, name)
    # Viewed as uint64 a negative label is huge, so one comparison catches both ends.
    if len(numbers) and to_device(numbers.view(np.uint64).max(), "cpu") >= classes:
        row = int(array_module(numbers).flatnonzero(numbers.view(np.uint64) >= classes)[0])
        given = integer_labels(operation, labels)[row]
        raise ValueError(f"{operation}: label of row {row} is {int(given)}, expected 0 to {classes - 1}: {owner} "
                         f"{classes} classes")
    return on_device_of(numbers, rows)


def on_device_of(labels: Any, rows: Tensor) -> Any:
    """The labels on the device of the rows.  Raises TypeError if they are on another one that is not the host."""
    if device_of(labels) == "cpu":
        labels = to_device(labels, rows.device)
    device_of(rows.array, labels)  # raises if they differ
    return labels
