"""Labels as every loss takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Tensor, rectangular
from sparsenet.backend import device_of


def integer_labels(operation: str, labels: Any) -> Any:
    """Labels, a list, array or Tensor of any integer dtype, as an array of that dtype.

    Raises TypeError, in the name of the operation, for anything else, ValueError for lists of different lengths.
    """
    labels = labels.array if isinstance(labels, Tensor) else labels
    if isinstance(labels, (list, tuple)):
        labels = rectangular(f"{operation}: labels", labels) if len(labels) else np.zeros(0, np.int64)
    kind = getattr(labels, "dtype", type(labels).__name__)
    if getattr(kind, "kind", "") not in ("i", "u"):
        raise TypeError(f"{operation}: labels are {kind}, expected integers: a list, an array or a Tensor, such as "
                        "numpy.asarray(labels, 'int64')")
    device_of(labels)  # raises for what is not an array
    return labels
