"""Supervised contrastive loss: each descriptor is to be nearer to those of its class than to the others.

    s[i, a] = x_i x_a / (|x_i| |x_a|) / temperature
    P(i) = the other rows with the label of i;  A(i) = all other rows
    loss = mean over the i with a P(i) of  -1/|P(i)| sum over p in P(i) of log softmax over A(i) of s[i, .], at p

Source: Khosla et al., Supervised contrastive learning (2020), equation 2 (L_out), as a mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.ops.labels import on_device_of, row_labels
from sparsenet.ops.unit_vectors import check_rows, checked_number, product, unit_gradient, unit_vectors


class SupervisedContrastive(Function):
    def __init__(self, labels: Any, temperature: float):
        super().__init__()
        self.labels, self.temperature = labels, temperature

    def forward(self, descriptors: Any) -> Any:
        xp, batch = array_module(descriptors), len(descriptors)
        units, norms = unit_vectors(descriptors)
        itself = xp.eye(batch, dtype=bool)
        same = (self.labels[:, None] == self.labels[None]) & ~itself
        positives = same.sum(axis=1, keepdims=True)
        anchors, share = positives > 0, same / xp.maximum(positives, 1)
        count = xp.maximum(anchors.sum(), 1)
        similarities = product(units, xp.ascontiguousarray(units.T)) / self.temperature
        masked = xp.where(itself, -1.0 / self.temperature, similarities)  # the least that there can be
        shifted = masked - masked.max(axis=1, keepdims=True) if batch else masked
        exponentials = xp.where(itself, 0.0, xp.exp(shifted))
        totals = exponentials.sum(axis=1, keepdims=True)
        totals = xp.where(anchors, totals, 1.0)  # a lone row has no other
        terms = xp.log(totals[:, 0]) - (share * shifted).sum(axis=1)
        if self.needs[0]:
            slopes = xp.where(anchors, exponentials / totals - share, 0.0) / (count * self.temperature)
            self.save(slopes + slopes.T, units, norms)
        return (xp.where(anchors[:, 0], terms, 0.0).sum() / count).astype(descriptors.dtype)

    def backward(self, gradient: Any) -> Any:
        slopes, units, norms = self.saved
        return unit_gradient(product(slopes * gradient.astype(np.float64), units), units, norms).astype(gradient.dtype)


def supervised_contrastive(descriptors: Tensor, labels: Any, temperature: float = 0.1) -> Tensor:
    """The supervised contrastive loss of a batch, from the cosines of all pairs: a Tensor ().

    descriptors : Tensor (B, C); float16 is converted to float32, the dtype of the loss then
    labels : (B,) integers of any dtype, a list, array or Tensor; on the host or on the same device
    temperature : above 0, such as 0.1

    A row that is alone in its class is no anchor, but counts among the others of each anchor.  A batch without an
    anchor has loss 0, so has an empty one.  A zero vector has cosine 0 with all others, and gradient 0.

    Raises
    ------
    TypeError : descriptors are not a Tensor of floats, or labels are not integers.
    ValueError : a shape does not fit, or the temperature is out of range.

    Example
    -------
    >>> rows = Tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> round(supervised_contrastive(rows, [0, 0, 1]).item(), 6)
    4.5e-05
    >>> round(supervised_contrastive(rows, [0, 1, 0]).item(), 3)
    5.347
    """
    name = "supervised_contrastive"
    temperature = checked_number(name, "temperature", temperature, above=True)
    descriptors = check_rows(name, "descriptors", descriptors)
    labels = on_device_of(row_labels(name, labels, descriptors, "descriptors"), descriptors)
    return SupervisedContrastive(labels, temperature).apply(descriptors)
