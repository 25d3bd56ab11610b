"""Triplet mining within a batch of descriptors: batch-hard or semi-hard.

Sources: batch hard, Hermans, Beyer, Leibe (2017); semi-hard, Schroff, Kalenichenko, Philbin (2015).
No gradient flows through the choice; index the descriptors with the result:

    a, p, n = batch_hard(descriptors, labels, "cosine")
    loss = triplet_loss(descriptors[a], descriptors[p], descriptors[n], margin, "cosine")
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import array_module
from sparsenet.ops.labels import integer_labels
from sparsenet.ops.triplet_loss import DISTANCES

_BLOCK = 1 << 22  # elements in a temporary array, at most

Triplets = tuple[Any, Any, Any]


def batch_hard(descriptors: Any, labels: Any, distance: str = "cosine") -> Triplets:
    """For each anchor, the farthest item of its class and the nearest item of any other.

    descriptors : (B, C) float array or Tensor
    labels : (B,) integers of any dtype, on the same device, or a list
    distance : "cosine", "l2" or "squared_l2", as in `ops.triplet_loss`

    Returns anchor, positive, negative : (T,) int64 row indices, anchors ascending.  An item alone in its class, or
    in a batch of one class, is not an anchor.  Ties go to the first item.

    Raises
    ------
    ValueError : shapes do not match, a descriptor is not finite, or the distance is unknown.
    TypeError : labels are not integers.
    """
    descriptors, labels = _check("batch_hard", descriptors, labels, distance)
    xp = array_module(descriptors)
    distances = pairwise_distances(descriptors, distance)
    positives, negatives = _masks(labels)
    usable = xp.flatnonzero(positives.any(axis=1) & negatives.any(axis=1))
    if not len(usable):  # argmax of an empty array raises
        return usable, usable, usable
    positive = xp.where(positives, distances, -np.inf).argmax(axis=1)
    negative = xp.where(negatives, distances, np.inf).argmin(axis=1)
    return usable, positive[usable], negative[usable]


def semi_hard(descriptors: Any, labels: Any, margin: float, distance: str = "cosine") -> Triplets:
    """For each (anchor, positive) pair, the nearest negative that is farther than the positive, but by less than
    the margin.  Pairs without such a negative are left out.

    Parameters, result and errors as for `batch_hard`; triplets are sorted by anchor, then positive.
    margin : above 0, in the unit of the distance
    """
    descriptors, labels = _check("semi_hard", descriptors, labels, distance)
    if not margin > 0:
        raise ValueError(f"semi_hard: margin is {margin}, expected above 0")
    xp = array_module(descriptors)
    distances = pairwise_distances(descriptors, distance)
    positives, negatives = _masks(labels)
    anchor, positive = xp.nonzero(positives)
    negative = xp.full(len(anchor), -1, np.int64)
    step = max(1, _BLOCK // max(1, len(labels)))
    for start in range(0, len(anchor), step):
        rows = anchor[start : start + step]
        near = distances[rows, positive[start : start + step]][:, None]
        far = distances[rows]
        suitable = negatives[rows] & (far > near) & (far < near + margin)
        nearest = xp.where(suitable, far, np.inf).argmin(axis=1)
        negative[start : start + step] = xp.where(suitable.any(axis=1), nearest, -1)
    found = negative >= 0
    return anchor[found], positive[found], negative[found]


def pairwise_distances(descriptors: Any, distance: str) -> Any:
    """(B, B) float64 distances between the rows of (B, C), computed from differences: symmetric, and exactly 0 for
    equal rows."""
    xp = array_module(descriptors)
    rows = descriptors.astype(np.float64)
    zero = None
    if distance == "cosine":  # 1 - cosine is half the squared distance of the unit vectors
        largest = abs(rows).max(axis=1, keepdims=True)
        zero = largest == 0
        rows = rows / xp.where(zero, 1, largest)
        rows = rows / xp.where(zero, 1, xp.sqrt((rows**2).sum(axis=1, keepdims=True)))
    result = xp.empty((len(rows), len(rows)))
    step = max(1, _BLOCK // max(1, rows.size))
    for start in range(0, len(rows), step):
        difference = rows[start : start + step, None] - rows[None]
        result[start : start + step] = (difference**2).sum(axis=2)
    if distance == "cosine":
        return xp.where(zero | zero.T, 1.0, result / 2)
    return xp.sqrt(result) if distance == "l2" else result


def _masks(labels: Any) -> tuple[Any, Any]:
    """Two (B, B) bool masks: the other items of the row's class, and the items of other classes."""
    same = labels[:, None] == labels[None]
    return same & ~array_module(labels).eye(len(labels), dtype=bool), ~same


def _check(operation: str, descriptors: Any, labels: Any, distance: str) -> tuple[Any, Any]:
    descriptors = descriptors.array if isinstance(descriptors, Tensor) else descriptors
    labels = integer_labels(operation, labels)
    if distance not in DISTANCES:
        raise ValueError(f"{operation}: distance is {distance!r}, expected one of {', '.join(DISTANCES)}")
    if descriptors.ndim != 2 or labels.shape != descriptors.shape[:1]:
        raise ValueError(f"{operation}: descriptors have shape {descriptors.shape}, labels {labels.shape}, "
                         "expected (B, C) and (B,)")
    finite = array_module(descriptors, labels).isfinite(descriptors).all(axis=1)
    if not finite.all():
        raise ValueError(f"{operation}: descriptor of row {int((~finite).argmax())} is not finite: has the "
                         "training diverged?")
    return descriptors, labels
