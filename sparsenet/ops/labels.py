"""Validation of labels, common to the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Tensor, rectangular
from sparsenet.backend import device_of


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
