"""Softmax cross entropy: the mean over the batch of -log softmax(logits)[label]."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor, is_unit
from sparsenet.backend import HALF, array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.ops.cast import cast
from sparsenet.ops.labels import class_labels, integer_labels, on_device_of
from sparsenet.ops.shaping import index
from sparsenet.ops.weighted_cross_entropy import check_smoothing, weighted_cross_entropy


class SoftmaxCrossEntropy(Function):
    def __init__(self, labels: Any):
        super().__init__()
        self.labels = labels
        self.figures: Any = None

    def forward(self, logits: Any) -> Any:
        xp = array_module(logits)
        loss, self.figures, gradient = launch("softmax_cross_entropy", xp.ascontiguousarray(logits),
                                              xp.ascontiguousarray(self.labels), any(self.needs))
        self.save(gradient)
        return loss

    def backward(self, gradient: Any) -> Any:
        (result,) = self.saved  # referenced by nothing else, so it may be overwritten
        if not is_unit(gradient):
            launch("scale_gradient", result.reshape(-1), gradient)
        return result


def softmax_cross_entropy(logits: Tensor, labels: Any, label_smoothing: float = 0,
                          class_weights: Any = None, ignore_label: int | None = None) -> Tensor:
    """Mean cross entropy of softmax(logits) against the labels: a Tensor of shape ().

    logits : Tensor (B, classes) of finite numbers, however large; float16 is converted to float32, the dtype of the
        loss then
    labels : (B,) integers 0 ... classes-1 of any dtype, a list, array or Tensor; on the host, where checking them does
        not wait for a GPU, or on the device of the logits
    label_smoothing : e, 0 up to, but not including, 1: the target of a row is 1 - e at its label, plus e / classes at
        each class (Szegedy et al. 2016)
    class_weights : (classes,) numbers of at least 0, by which the rows of a class count; the loss is the weighted mean,
        as in PyTorch; None: all count 1
    ignore_label : rows with this label, such as -1, are left out, as if they were not there; None: all rows count
    An empty batch has loss 0; so has one whose rows all have weight 0, or are all left out.

    Raises
    ------
    TypeError : logits are not a Tensor of floats; labels are not integers, or on another device than the logits and
        not on the host.
    ValueError : a shape does not fit, a label is out of range (the row is named), or a setting is.
    """
    return softmax_cross_entropy_with_figures(logits, labels, label_smoothing, class_weights, ignore_label)[0]


def softmax_cross_entropy_with_figures(logits: Tensor, labels: Any, label_smoothing: float = 0,
                                       class_weights: Any = None, ignore_label: int | None = None
                                       ) -> tuple[Tensor, Any]:
    """The loss of `softmax_cross_entropy`, and the figures that a training loop reports: an array (2,) float64 on the
    device of the logits, so that one copy brings both to the host.

        figures[0]   the loss
        figures[1]   the number of rows whose largest logit, the first of equal ones, is at their label

    Parameters and errors are those of `softmax_cross_entropy`.
    """
    labels, kept = _marked(labels, ignore_label)
    labels = _checked(logits, labels)
    if kept is not None:
        kept = on_device_of(kept, logits)
        logits, labels = index(logits, kept), labels[kept]
    logits = cast(logits, np.float32) if logits.dtype == HALF else logits
    if label_smoothing or class_weights is not None:
        check_smoothing(label_smoothing)
        return weighted_cross_entropy(logits, labels, label_smoothing, class_weights)
    function = SoftmaxCrossEntropy(labels)
    loss = function.apply(logits)
    return loss, function.figures


def _marked(labels: Any, ignore_label: Any) -> tuple[Any, Any | None]:
    """The labels with 0 for those that are ignored, which is a class, and a mask of the others; None if all count."""
    if ignore_label is None:
        return labels, None
    if isinstance(ignore_label, bool) or not isinstance(ignore_label, int | np.integer):
        raise TypeError(f"softmax_cross_entropy: ignore_label is {ignore_label!r}, expected a whole number or None")
    labels = integer_labels("softmax_cross_entropy", labels)
    kept = labels != ignore_label
    return (labels, None) if bool(kept.all()) else (labels * kept, kept)


def _checked(logits: Tensor, labels: Any) -> Any:
    """The labels as an array of int64 on the device of the logits."""
    check_tensor("softmax_cross_entropy", "logits", logits)
    integer_labels("softmax_cross_entropy", labels)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"softmax_cross_entropy: logits have shape {logits.shape}, expected (B, classes), at least "
                         "one class")
    return class_labels("softmax_cross_entropy", labels, logits, "logits", logits.shape[1], "the logits have")
