"""Triplet loss: max(0, margin + d(anchor, positive) - d(anchor, negative)), mean over triplets.

Source: Notchenko, Kapushev, Burnaev (2016), section on triplet learning, with d = 1 - cosine.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor, is_unit
from sparsenet.backend import HALF, array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.ops.cast import cast

DISTANCES = ("cosine", "l2", "squared_l2")


class TripletLoss(Function):
    def __init__(self, margin: float, distance: str):
        super().__init__()
        self.margin, self.distance = float(margin), DISTANCES.index(distance)

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        rows = map(array_module(anchor).ascontiguousarray, (anchor, positive, negative))
        loss, _, gradients = launch("triplet_loss", *rows, self.margin, self.distance, any(self.needs))
        self.save(gradients)
        return loss

    def backward(self, gradient: Any) -> tuple[Any, Any, Any]:
        (gradients,) = self.saved  # referenced by nothing else, so they may be overwritten
        if not is_unit(gradient):
            launch("scale_gradient", gradients.reshape(-1), gradient)
        return gradients[0], gradients[1], gradients[2]


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float,
                 distance: str = "cosine") -> Tensor:
    """mean over t of max(0, margin + d(anchor[t], positive[t]) - d(anchor[t], negative[t])).

    anchor, positive, negative : Tensors (T, C) of one dtype; float16 is converted to float32, the dtype of the loss
        then
    margin : in the unit of the distance
    distance : "cosine" (1 - cosine, 1 if a vector is zero), "l2" or "squared_l2"

    Returns a Tensor of shape (), 0 if T is 0.  Gradients are 0 if the l2 distance is 0, with respect to a zero vector
    under cosine, and if the term is exactly 0.

    Raises
    ------
    ValueError : shapes differ, there are no channels, an unknown distance, or a margin that is not a finite number.
    TypeError : dtypes differ, or an argument is not a Tensor.

    Example
    -------
    >>> anchor, near, far = (Tensor([row]) for row in ([1.0, 0.0], [1.0, 0.1], [0.0, 1.0]))
    >>> triplet_loss(anchor, near, far, margin=0.2).item(), triplet_loss(anchor, far, near, margin=0.2).item() > 1
    (0.0, True)
    """
    if distance not in DISTANCES:
        raise ValueError(f"triplet_loss: distance is {distance!r}, expected one of {', '.join(DISTANCES)}")
    if not (isinstance(margin, numbers.Real) and math.isfinite(margin)):
        raise ValueError(f"triplet_loss: margin is {margin!r}, expected a finite number")
    for name, tensor in (("anchor", anchor), ("positive", positive), ("negative", negative)):
        check_tensor("triplet_loss", name, tensor)
    if anchor.ndim != 2 or anchor.shape[1] == 0:
        raise ValueError(f"triplet_loss: anchor has shape {anchor.shape}, expected (T, C), C at least 1")
    for name, tensor in (("positive", positive), ("negative", negative)):
        if tensor.shape != anchor.shape:
            raise ValueError(f"triplet_loss: {name} has shape {tensor.shape}, expected {anchor.shape}, as "
                             "the anchor")
        if tensor.dtype != anchor.dtype:
            raise TypeError(f"triplet_loss: {name} is {tensor.dtype}, the anchor is {anchor.dtype}: convert "
                            "one of them")
    if anchor.dtype == HALF:
        anchor, positive, negative = (cast(tensor, np.float32) for tensor in (anchor, positive, negative))
    return TripletLoss(margin, distance).apply(anchor, positive, negative)
