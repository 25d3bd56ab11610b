"""Softmax cross entropy: the mean over the batch of -log softmax(logits)[label]."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module, device_of, to_device


class SoftmaxCrossEntropy(Function):
    def __init__(self, labels: Any):
        super().__init__()
        self.labels = labels

    def forward(self, logits: Any) -> Any:
        xp = array_module(logits)
        shifted = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
        exponentials = xp.exp(shifted)
        totals = exponentials.sum(axis=1, keepdims=True)
        self.save(exponentials / totals)
        rows = xp.arange(len(logits))
        losses = xp.log(totals[:, 0]) - shifted[rows, self.labels]
        return losses.sum() / max(1, len(logits))

    def backward(self, gradient: Any) -> Any:
        (probabilities,) = self.saved
        xp = array_module(gradient)
        result = probabilities.copy()
        result[xp.arange(len(result)), self.labels] -= 1
        return result * (gradient / max(1, len(result)))


def softmax_cross_entropy(logits: Tensor, labels: Any) -> Tensor:
    """Mean cross entropy of softmax(logits) against the labels: a Tensor of shape ().

    logits : Tensor (B, classes), any finite numbers, however large
    labels : (B,) int64 array or Tensor, 0 ... classes-1; on the host, where a look at them does not wait
        for a GPU, or on the device of the logits
    An empty batch has loss 0.

    Raises
    ------
    TypeError : labels are not int64, or on another device than the logits and not on the host.
    ValueError : a shape does not fit, or a label is out of range (the row is named).
    """
    labels = labels.array if isinstance(labels, Tensor) else labels
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"softmax_cross_entropy: logits have shape {logits.shape}, expected (B, classes)")
    kind = getattr(labels, "dtype", type(labels).__name__)
    if kind != np.int64:
        raise TypeError(f"softmax_cross_entropy: labels are {kind}, expected an int64 array: convert them "
                        "with numpy.asarray(labels, 'int64')")
    batch, classes = logits.shape
    if labels.shape != (batch,):
        raise ValueError(f"softmax_cross_entropy: labels have shape {labels.shape}, expected ({batch},), one "
                         "for each row of logits")
    wrong = array_module(labels).flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"softmax_cross_entropy: label of row {row} is {int(labels[row])}, expected 0 to "
                         f"{classes - 1}: the logits have {classes} classes")
    if device_of(labels) == "cpu":
        labels = to_device(labels, logits.device)
    device_of(logits.array, labels)  # raises where they differ
    return SoftmaxCrossEntropy(labels).apply(logits)
