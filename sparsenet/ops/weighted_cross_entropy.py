"""Cross entropy with smoothed labels and class weights, as `softmax_cross_entropy` computes it if either is given.

    p = softmax(logits)    t[i, c] = (1 - e) * w[y_i] * [c = y_i] + e / C * w[c]
    loss = - sum(t * log p) / sum_i w[y_i]

with label smoothing e (Szegedy et al. 2016) and class weights w, 1 if not given: PyTorch's conventions.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module, device_of, to_device

NAME = "softmax_cross_entropy"


class WeightedCrossEntropy(Function):
    """In float64, whatever the dtype of the logits: a batch of logits is small."""

    def __init__(self, labels: Any, label_smoothing: float, class_weights: Any):
        super().__init__()
        self.labels, self.label_smoothing, self.class_weights = labels, label_smoothing, class_weights
        self.figures: Any = None

    def forward(self, logits: Any) -> Any:
        xp = array_module(logits)
        batch, classes = logits.shape
        wide = logits.astype(xp.float64)
        shifted = wide - wide.max(axis=1, keepdims=True)
        exponentials = xp.exp(shifted)
        totals = exponentials.sum(axis=1, keepdims=True)
        weights = xp.ones(classes) if self.class_weights is None else to_device(self.class_weights, device_of(logits))
        own = weights[self.labels]
        targets = xp.zeros((batch, classes)) + self.label_smoothing / classes * weights
        targets[xp.arange(batch), self.labels] += (1 - self.label_smoothing) * own
        norm = own.sum()
        norm = xp.where(norm > 0, norm, 1.0)  # no row counts: the loss is 0
        loss = -(targets * (shifted - xp.log(totals))).sum() / norm
        if self.needs[0]:
            self.save((exponentials / totals * targets.sum(axis=1, keepdims=True) - targets) / norm)
        right = (wide.argmax(axis=1) == self.labels).sum() if batch else xp.zeros(())
        self.figures = xp.stack([loss, right.astype(xp.float64)])
        return loss.astype(logits.dtype)

    def backward(self, gradient: Any) -> Any:
        (result,) = self.saved
        return (result * gradient).astype(gradient.dtype)


def weighted_cross_entropy(logits: Tensor, labels: Any, label_smoothing: float, class_weights: Any
                           ) -> tuple[Tensor, Any]:
    """The loss and the figures; labels and logits are checked, the rest is checked here."""
    function = WeightedCrossEntropy(labels, label_smoothing, _checked_weights(class_weights, logits.shape[1]))
    return function.apply(logits), function.figures


def check_smoothing(value: Any) -> None:
    """Raise TypeError or ValueError unless it is a number from 0 up to, but not including, 1."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{NAME}: label_smoothing is {value!r}, expected a number")
    if not 0 <= value < 1:
        raise ValueError(f"{NAME}: label_smoothing is {value}, expected at least 0 and less than 1")


def _checked_weights(class_weights: Any, classes: int) -> np.ndarray | None:
    """The weights on the host, (C,) float64."""
    if class_weights is None:
        return None
    weights = np.asarray(to_device(getattr(class_weights, "array", class_weights), "cpu")
                         if hasattr(class_weights, "shape") else class_weights)
    if weights.dtype.kind not in "iuf" or weights.shape != (classes,):
        raise ValueError(f"{NAME}: class_weights are {weights.dtype} of shape {weights.shape}, expected numbers of "
                         f"shape ({classes},), one for each class")
    weights = weights.astype(np.float64)
    wrong = ~((weights >= 0) & (weights < math.inf))
    if wrong.any():
        label = int(wrong.argmax())
        raise ValueError(f"{NAME}: class_weights[{label}] is {weights[label]}, expected a finite number of at least 0")
    return weights
