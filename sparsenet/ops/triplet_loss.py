"""Triplet loss: max(0, margin + d(anchor, positive) - d(anchor, negative)), mean over triplets.

Source: Notchenko, Kapushev, Burnaev (2016), section on triplet learning, with d = 1 - cosine.
"""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module

DISTANCES = ("cosine", "l2", "squared_l2")


class TripletLoss(Function):
    def __init__(self, margin: float, distance: str):
        super().__init__()
        self.margin, self.distance = float(margin), distance

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        to_positive = _distances(anchor, positive, self.distance)
        to_negative = _distances(anchor, negative, self.distance)
        terms = self.margin + to_positive - to_negative
        active = terms > 0
        self.save(anchor, positive, negative, active)
        return (terms * active).sum() / max(1, len(terms))

    def backward(self, gradient: Any) -> tuple[Any, Any, Any]:
        anchor, positive, negative, active = self.saved
        share = (active * (gradient / max(1, len(active))))[:, None]
        anchor_to_positive, positive_gradient = _gradients(anchor, positive, self.distance)
        anchor_to_negative, negative_gradient = _gradients(anchor, negative, self.distance)
        return ((anchor_to_positive - anchor_to_negative) * share, positive_gradient * share,
                -negative_gradient * share)


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float,
                 distance: str = "cosine") -> Tensor:
    """mean over t of max(0, margin + d(anchor[t], positive[t]) - d(anchor[t], negative[t])).

    anchor, positive, negative : Tensors (T, C) of one dtype
    margin : in the unit of the distance
    distance : "cosine" (1 - cosine, 1 where a vector is zero), "l2" or "squared_l2"

    A Tensor of shape (); 0 where T is 0.  Gradients are 0 where the l2 distance is 0, with respect to
    a zero vector under cosine, and where the term is exactly 0.

    Raises
    ------
    ValueError : shapes differ, or an unknown distance.
    TypeError : dtypes differ.

    Example
    -------
    >>> anchor, near, far = (Tensor([row]) for row in ([1.0, 0.0], [1.0, 0.1], [0.0, 1.0]))
    >>> triplet_loss(anchor, near, far, margin=0.2).item(), triplet_loss(anchor, far, near, margin=0.2).item() > 1
    (0.0, True)
    """
    if distance not in DISTANCES:
        raise ValueError(f"triplet_loss: distance is {distance!r}, expected one of {', '.join(DISTANCES)}")
    if anchor.ndim != 2 or anchor.shape[1] == 0:
        raise ValueError(f"triplet_loss: anchor has shape {anchor.shape}, expected (T, C)")
    for name, tensor in (("positive", positive), ("negative", negative)):
        if tensor.shape != anchor.shape:
            raise ValueError(f"triplet_loss: {name} has shape {tensor.shape}, expected {anchor.shape}, as "
                             "the anchor")
        if tensor.dtype != anchor.dtype:
            raise TypeError(f"triplet_loss: {name} is {tensor.dtype}, the anchor is {anchor.dtype}: convert "
                            "one of them")
    return TripletLoss(margin, distance).apply(anchor, positive, negative)


def _distances(a: Any, b: Any, distance: str) -> Any:
    """(T,) distances of the rows."""
    xp = array_module(a)
    if distance == "cosine":
        (a_unit, a_inverse), (b_unit, b_inverse) = _unit(a), _unit(b)
        half_chord = ((a_unit - b_unit) ** 2).sum(axis=1) / 2  # = 1 - cosine, and exact where it is small
        return xp.where((a_inverse * b_inverse)[:, 0] == 0, a.dtype.type(1), half_chord)
    squared = ((a - b) ** 2).sum(axis=1)
    return squared if distance == "squared_l2" else xp.sqrt(squared)


def _gradients(a: Any, b: Any, distance: str) -> tuple[Any, Any]:
    """(T, C) gradients of `_distances` with respect to a and b."""
    if distance == "cosine":
        (a_unit, a_inverse), (b_unit, b_inverse) = _unit(a), _unit(b)
        chord = (a_unit - b_unit) * ((a_inverse != 0) & (b_inverse != 0))
        return _across(chord, a_unit) * a_inverse, -_across(chord, b_unit) * b_inverse
    difference = a - b
    if distance == "squared_l2":
        return 2 * difference, -2 * difference
    xp = array_module(a)
    length = xp.sqrt((difference**2).sum(axis=1, keepdims=True))
    direction = difference / xp.where(length == 0, 1, length)
    return direction, -direction


def _across(chord: Any, unit: Any) -> Any:
    """The part of `chord` at right angles to `unit`, row by row."""
    return chord - (chord * unit).sum(axis=1, keepdims=True) * unit


def _unit(x: Any) -> tuple[Any, Any]:
    """Rows of length 1 (T, C), and 1 / length before (T, 1); zeros for a zero row.  The rows are scaled
    by their largest number first, so that no square over- or underflows."""
    xp = array_module(x)
    largest = abs(x).max(axis=1, keepdims=True)
    one = x.dtype.type(1)
    scaled = x / xp.where(largest == 0, one, largest)
    length = xp.sqrt((scaled**2).sum(axis=1, keepdims=True))
    zero = length == 0
    safe = xp.where(zero, one, length)
    return scaled / safe, xp.where(zero, 0 * one, one / (safe * xp.where(zero, one, largest)))
