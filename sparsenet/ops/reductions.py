"""Reductions of a `Tensor` over one axis, several, or all: sum, mean, max, min, argmax, argmin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import HALF, array_module, wide_dtype
from sparsenet.ops.elementwise import chosen
from sparsenet.ops.operands import normalized_axes, refuse_keywords

Axes = int | Sequence[int] | None


class Sum(Function):
    def __init__(self, axis: Axes, keepdims: bool):
        super().__init__()
        self.axis = tuple(axis) if isinstance(axis, Sequence) else axis
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        self.save(x.shape)
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, gradient: Any) -> Any:
        (shape,) = self.saved
        xp = array_module(gradient)
        if self.axis is not None and not self.keepdims:
            gradient = xp.expand_dims(gradient, self.axis)
        return xp.broadcast_to(gradient, shape)


class Extremum(Function):
    """The largest or smallest element.

    name : "max" or "min"
    axes : numbers from 0 to ndim - 1
    first : whether the first of several equal elements gets the whole gradient (there is one axis then), instead of
        each an equal share
    """

    def __init__(self, name: str, axes: tuple[int, ...], keepdims: bool, first: bool):
        super().__init__()
        self.name, self.axes, self.keepdims, self.first = name, axes, keepdims, first

    def forward(self, x: Any) -> Any:
        extremum = getattr(x, self.name)(axis=self.axes, keepdims=True)
        self.shape = extremum.shape
        if self.first and any(self.needs):
            (axis,) = self.axes
            place = array_module(x).expand_dims(getattr(x, f"arg{self.name}")(axis=axis), axis)
            self.save(x.shape, place)
        else:
            self.save(x, extremum)
        kept = [side for axis, side in enumerate(x.shape) if self.keepdims or axis not in self.axes]
        return extremum if self.keepdims else extremum.reshape(kept)

    def backward(self, gradient: Any) -> Any:
        xp = array_module(gradient)
        gradient = gradient.reshape(self.shape)
        if self.first:
            (axis,), (shape, place) = self.axes, self.saved
            along = [1] * len(shape)
            along[axis] = shape[axis]
            return chosen(xp.arange(shape[axis]).reshape(along) == place, gradient)
        x, extremum = self.saved
        equal = (x == extremum) | (xp.isnan(x) & xp.isnan(extremum))
        return chosen(equal, gradient / equal.sum(axis=self.axes, keepdims=True).astype(gradient.dtype))


def total(x: Any, axis: Axes = None, keepdims: bool = False, **unknown: Any) -> Tensor:
    """The sum over one axis, several, or all: the method `Tensor.sum`."""
    refuse_keywords("sum", unknown)
    normalized_axes("sum", axis, x.ndim)
    return Sum(axis, keepdims).apply(x)


def mean(x: Any, axis: Axes = None, keepdims: bool = False, **unknown: Any) -> Tensor:
    """The mean over one axis, several, or all; NaN for no elements, as in NumPy.  That of integers is float32."""
    refuse_keywords("mean", unknown)
    if x.dtype == HALF:  # which may hold neither the sum nor the number of elements
        return mean(x.astype(wide_dtype(HALF)), axis, keepdims).astype(HALF)
    summed = total(x, axis, keepdims)
    return summed / (x.size / max(1, summed.size)) if x.size else summed * float("nan")


def extremum(name: str, x: Any, axis: Axes = None, keepdims: bool = False, **unknown: Any) -> Tensor:
    """The largest ("max") or smallest ("min") element over one axis, several, or all; NaN if one is NaN.

    If several elements are equal, the gradient goes where PyTorch's goes: over one axis to the first of them, as in
    torch.max(x, dim); over all axes or a sequence of them to each in equal shares, as in torch.max(x) and torch.amax.

    Raises ValueError for an axis that the tensor lacks, and for axes along which there is no element.
    """
    refuse_keywords(name, unknown)
    axes = _axes_with_elements(name, x, axis)
    return Extremum(name, axes, keepdims, first=axis is not None and not isinstance(axis, Sequence)).apply(x)


def index_of_extremum(name: str, x: Any, axis: int | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
    """The index of the largest ("argmax") or smallest ("argmin") element: the first, if several are equal.

    axis : an integer; None: the index into the elements in row-major order

    Returns a Tensor of int64 that is not part of the graph.  Raises as `extremum` does.
    """
    refuse_keywords(name, unknown)
    if isinstance(axis, Sequence):
        raise TypeError(f"{name}: axis is {axis}, expected one integer, or None for all elements")
    axes = _axes_with_elements(name, x, axis)
    place = array_module(x.array).asarray(getattr(x.array, name)(axis=axis))
    return Tensor(array_module(x.array).expand_dims(place, axes) if keepdims else place)


def _axes_with_elements(name: str, x: Any, axis: Axes) -> tuple[int, ...]:
    axes = normalized_axes(name, axis, x.ndim)
    if any(x.shape[one] == 0 for one in axes) or (axis is None and not x.size):
        raise ValueError(f"{name}: the tensor has shape {x.shape}, expected at least one element along "
                         f"{'each axis' if axis is None else f'axis {axis}'}: look at .size first")
    return axes
