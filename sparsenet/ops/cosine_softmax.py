"""Softmax cross entropy of cosines, with a margin at the label: NormFace, CosFace, ArcFace.

    c[i, k] = x_i w_k / (|x_i| |w_k|)                         cosine of descriptor i and class vector k
    z[i, k] = scale * c[i, k], but at the label y = y_i:
        "normface"   scale * c[i, y]                          Wang et al., NormFace (2017)
        "cosface"    scale * (c[i, y] - margin)               Wang et al., CosFace (2018), equation 4
        "arcface"    scale * cos(arccos c[i, y] + margin)     Deng et al., ArcFace (2019), equation 3
    loss = mean over i of -log softmax(z_i)[y_i]

An angle whose sum with ArcFace's margin exceeds pi would gain from growing; there the cosine goes on as c - 1 + cos(m),
which joins at -1 and keeps falling with the angle (the paper leaves this open).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.ops.labels import class_labels
from sparsenet.ops.unit_vectors import (
    check_dtype,
    check_rows,
    checked_number,
    one_hot,
    product,
    unit_gradient,
    unit_vectors,
)

KINDS = ("cosface", "arcface", "normface")
_PARALLEL = 1e-15  # of sin^2: vectors this close have no plane in which to turn, and turning them has gradient 0


class CosineSoftmax(Function):
    def __init__(self, labels: Any, scale: float, margin: float, kind: str):
        super().__init__()
        self.labels, self.scale, self.margin, self.kind = labels, scale, margin, kind
        self.figures: Any = None

    def forward(self, descriptors: Any, weights: Any) -> Any:
        xp, labels = array_module(descriptors), self.labels
        (units, norms), (vectors, lengths) = unit_vectors(descriptors), unit_vectors(weights.T)
        cosines = xp.clip(product(units, vectors.T), -1.0, 1.0)
        rows, count = xp.arange(len(labels)), max(1, len(labels))
        own, slope = self._with_margin(cosines[rows, labels])
        logits = self.scale * cosines
        logits[rows, labels] = self.scale * own
        shifted = logits - logits.max(axis=1, keepdims=True)
        exponentials = xp.exp(shifted)
        totals = exponentials.sum(axis=1, keepdims=True)
        loss = (xp.log(totals[:, 0]) - shifted[rows, labels]).sum() / count
        right = (cosines.argmax(axis=1) == labels).sum()
        self.figures = xp.stack([loss, right.astype(np.float64)])
        if any(self.needs):
            slopes = (exponentials / totals - one_hot(labels, len(vectors))) * (self.scale / count)
            slopes[rows, labels] *= slope
            self.save(slopes, units, norms, vectors, lengths)
        return loss.astype(descriptors.dtype)

    def _with_margin(self, cosines: Any) -> tuple[Any, Any]:
        """The cosines at the labels (B,) with the margin, and the derivative of each."""
        xp = array_module(cosines)
        if self.kind != "arcface":
            return cosines - self.margin, xp.ones_like(cosines)
        turned, kept = math.sin(self.margin), math.cos(self.margin)
        squared = (1 - cosines) * (1 + cosines)
        sines = xp.sqrt(squared)
        steep = xp.where(squared > _PARALLEL, cosines / xp.where(squared > _PARALLEL, sines, 1.0), 0.0)
        within = cosines >= -kept  # the angle and the margin are at most pi together
        return (xp.where(within, cosines * kept - sines * turned, cosines - 1 + kept),
                xp.where(within, kept + turned * steep, 1.0))

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        slopes, units, norms, vectors, lengths = self.saved
        slopes, dtype = slopes * gradient.astype(np.float64), gradient.dtype
        of_descriptors = of_weights = None
        if self.needs[0]:
            of_descriptors = unit_gradient(product(slopes, vectors), units, norms).astype(dtype)
        if self.needs[1]:
            of_weights = unit_gradient(product(slopes.T, units), vectors, lengths).T.astype(dtype)
        return of_descriptors, of_weights


def cosine_softmax(descriptors: Tensor, weights: Tensor, labels: Any, scale: float, margin: float = 0.0,
                   kind: str = "cosface") -> Tensor:
    """Mean cross entropy of softmax(scale * cosine) against the labels, with a margin at the label: a Tensor ().

    descriptors : Tensor (B, C); float16 is converted to float32, the dtype of the loss then
    weights : Tensor (C, classes), a column for each class as in `nn.CosineLinear`, of the same dtype
    labels : (B,) integers 0 ... classes-1 of any dtype, a list, array or Tensor; on the host or on the same device
    scale : s, above 0, such as 10 to 64: cosines alone are too close together for a softmax
    margin : m, at least 0: subtracted from the cosine ("cosface"), or added to the angle in radians ("arcface", at most
        pi); 0 for "normface"
    kind : "cosface", "arcface" or "normface"

    An empty batch has loss 0.  A zero vector has cosine 0 with all others, and gradient 0.

    Raises
    ------
    TypeError : an argument is not a Tensor of floats, the dtypes differ, or labels are not integers.
    ValueError : a shape does not fit, a label is out of range (the row is named), or a setting is.

    Example
    -------
    >>> classes, rows = Tensor([[1.0, 0.0], [0.0, 1.0]]), Tensor([[2.0, 0.0], [0.0, 0.5]])
    >>> round(cosine_softmax(rows, classes, [0, 1], scale=10).item(), 6)
    4.5e-05
    >>> round(cosine_softmax(rows, classes, [0, 1], scale=10, margin=0.5).item(), 6)
    0.006715
    """
    return cosine_softmax_with_figures(descriptors, weights, labels, scale, margin, kind)[0]


def cosine_softmax_with_figures(descriptors: Tensor, weights: Tensor, labels: Any, scale: float, margin: float = 0.0,
                                kind: str = "cosface") -> tuple[Tensor, Any]:
    """The loss of `cosine_softmax`, and an array (2,) float64 on the device of the descriptors: the loss, and the
    number of rows whose largest cosine, the first of equal ones, is at their label.

    Parameters and errors are those of `cosine_softmax`.
    """
    name = "cosine_softmax"
    if kind not in KINDS:
        raise ValueError(f"{name}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    scale = checked_number(name, "scale", scale, above=True)
    margin = checked_number(name, "margin", margin, most=math.pi if kind == "arcface" else math.inf)
    if kind == "normface" and margin:
        raise ValueError(f"{name}: margin is {margin}, and NormFace has none: set it to 0, or kind to 'cosface'")
    descriptors = check_rows(name, "descriptors", descriptors)
    weights = check_rows(name, "weights", weights)
    if weights.shape[0] != descriptors.shape[1]:
        raise ValueError(f"{name}: weights have shape {weights.shape}, expected ({descriptors.shape[1]}, classes): a "
                         "row for each channel of the descriptors")
    check_dtype(name, "weights", weights, descriptors)
    labels = class_labels(name, labels, descriptors, "descriptors", weights.shape[1], "the weights have")
    function = CosineSoftmax(labels, scale, margin, kind)
    return function.apply(descriptors, weights), function.figures
