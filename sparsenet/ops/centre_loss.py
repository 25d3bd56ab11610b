"""Losses with a centre for each class: centre loss and triplet-centre loss.

    d(x, c) = |x - c|^2 / 2
    centre:           mean over i of d(x_i, c[y_i])
    triplet-centre:   mean over i of max(0, margin + d(x_i, c[y_i]) - min over k != y_i of d(x_i, c[k]))

Sources: Wen et al., A discriminative feature learning approach for deep face recognition (2016), equation 2; He et al.,
Triplet-center loss for multi-view 3D object retrieval (2018), equation 5; both as means.  There the centres follow a
rule of their own; here they have the gradient of the loss, and an optimizer moves them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.ops.labels import class_labels
from sparsenet.ops.unit_vectors import check_rows, checked_number, one_hot, product

_BLOCK = 1 << 20  # elements of the differences that exist at once, at most


class CentreLoss(Function):
    def __init__(self, labels: Any):
        super().__init__()
        self.labels = labels

    def forward(self, descriptors: Any, centres: Any) -> Any:
        offsets = _wide(descriptors) - _wide(centres)[self.labels]
        self.save(offsets / max(1, len(offsets)), len(centres))
        return ((offsets * offsets).sum() / (2 * max(1, len(offsets)))).astype(descriptors.dtype)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        offsets, classes = self.saved
        offsets, dtype = offsets * gradient.astype(np.float64), gradient.dtype
        of_centres = -product(one_hot(self.labels, classes).T, offsets) if self.needs[1] else None
        return offsets.astype(dtype), None if of_centres is None else of_centres.astype(dtype)


class TripletCentreLoss(Function):
    def __init__(self, labels: Any, margin: float):
        super().__init__()
        self.labels, self.margin = labels, margin

    def forward(self, descriptors: Any, centres: Any) -> Any:
        xp, labels, batch = array_module(descriptors), self.labels, max(1, len(descriptors))
        rows, wide = _wide(descriptors), _wide(centres)
        distances, places = _distances(rows, wide), xp.arange(len(rows))
        own = distances[places, labels]
        distances[places, labels] = np.inf
        nearest = distances.argmin(axis=1)
        terms = own + self.margin - distances[places, nearest]
        active = (terms > 0)[:, None] / batch
        if any(self.needs):
            self.save((rows - wide[labels]) * active, (rows - wide[nearest]) * active, nearest, len(wide))
        return (xp.maximum(terms, 0.0).sum() / batch).astype(descriptors.dtype)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        pulls, pushes, nearest, classes = self.saved
        factor, dtype = gradient.astype(np.float64), gradient.dtype
        of_descriptors = of_centres = None
        if self.needs[0]:
            of_descriptors = ((pulls - pushes) * factor).astype(dtype)
        if self.needs[1]:
            summed = (product(one_hot(nearest, classes).T, pushes) - product(one_hot(self.labels, classes).T, pulls))
            of_centres = (summed * factor).astype(dtype)
        return of_descriptors, of_centres


def centre_loss(descriptors: Tensor, centres: Tensor, labels: Any) -> Tensor:
    """Half the mean squared distance of the descriptors from the centres of their classes: a Tensor ().

    descriptors : Tensor (B, C); float16 is converted to float32, the dtype of the loss then
    centres : Tensor (classes, C) of the same dtype
    labels : (B,) integers 0 ... classes-1 of any dtype, a list, array or Tensor; on the host or on the same device

    An empty batch has loss 0.  Alone it is least with all descriptors at one point, so it is added to a loss that
    parts the classes.

    Raises
    ------
    TypeError : an argument is not a Tensor of floats, the dtypes differ, or labels are not integers.
    ValueError : a shape does not fit, or a label is out of range (the row is named).

    Example
    -------
    >>> centre_loss(Tensor([[1.0, 2.0], [0.0, 0.0]]), Tensor([[1.0, 0.0]]), [0, 0]).item()
    1.25
    """
    descriptors, centres, labels = _checked("centre_loss", descriptors, centres, labels)
    return CentreLoss(labels).apply(descriptors, centres)


def triplet_centre_loss(descriptors: Tensor, centres: Tensor, labels: Any, margin: float) -> Tensor:
    """The mean amount by which a descriptor is not nearer, by the margin, to the centre of its class than to the
    nearest other centre, in halves of squared distances: a Tensor ().

    Parameters and errors are those of `centre_loss`, and
    margin : at least 0, in the unit of half a squared distance (the paper's is 5)

    Of equally near centres the first counts.  The gradient is 0 if the term is exactly 0.  An empty batch has loss 0.

    Raises ValueError too if there are fewer than two centres.
    """
    descriptors, centres, labels = _checked("triplet_centre_loss", descriptors, centres, labels)
    margin = checked_number("triplet_centre_loss", "margin", margin)
    if len(centres.array) < 2:
        raise ValueError(f"triplet_centre_loss: centres have shape {centres.shape}, expected at least two classes: the "
                         "negative is the centre of another class")
    return TripletCentreLoss(labels, margin).apply(descriptors, centres)


def _checked(operation: str, descriptors: Any, centres: Any, labels: Any) -> tuple[Tensor, Tensor, Any]:
    descriptors = check_rows(operation, "descriptors", descriptors)
    centres = check_rows(operation, "centres", centres, descriptors)
    return descriptors, centres, class_labels(operation, labels, descriptors, "descriptors", centres.shape[0],
                                              "the centres are of")


def _wide(rows: Any) -> Any:
    return rows.astype(np.float64)


def _distances(rows: Any, centres: Any) -> Any:
    """(B, classes) halves of squared distances, from differences: exactly 0 for equal vectors."""
    xp = array_module(rows)
    distances = xp.empty((len(rows), len(centres)))
    step = max(1, _BLOCK // max(1, centres.size))
    for start in range(0, len(rows), step):
        offsets = rows[start:start + step, None] - centres[None]
        distances[start:start + step] = (offsets * offsets).sum(axis=2) / 2
    return distances
