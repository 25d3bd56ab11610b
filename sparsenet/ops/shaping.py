"""Elements in another shape or order: reshape, transpose, permute, indexing, clone, concatenate, stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.operands import normalized_axes, operands


class Reshape(Function):
    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def forward(self, x: Any) -> Any:
        self.save(x.shape)
        return x.reshape(self.shape)

    def backward(self, gradient: Any) -> Any:
        (shape,) = self.saved
        return gradient.reshape(shape)


class Permute(Function):
    """Axis i of the result is axis axes[i] of x.  The result is contiguous, as kernels expect."""

    def __init__(self, axes: tuple[int, ...]):
        super().__init__()
        self.axes = axes

    def forward(self, x: Any) -> Any:
        return array_module(x).ascontiguousarray(x.transpose(self.axes)) if self.axes else x

    def backward(self, gradient: Any) -> Any:
        back = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return gradient.transpose(back) if self.axes else gradient


class Clone(Function):
    def forward(self, x: Any) -> Any:
        return x.copy()

    def backward(self, gradient: Any) -> Any:
        return gradient


class Concatenate(Function):
    def __init__(self, axis: int):
        super().__init__()
        self.axis = axis

    def forward(self, *parts: Any) -> Any:
        self.save(list(accumulate(part.shape[self.axis] for part in parts[:-1])))
        return array_module(*parts).concatenate(parts, axis=self.axis)

    def backward(self, gradient: Any) -> tuple[Any, ...]:
        (splits,) = self.saved
        return tuple(array_module(gradient).split(gradient, splits, axis=self.axis))


class Index(Function):
    """x[index].  If an array of integers takes an element several times, its gradients are added, in a fixed order."""

    def __init__(self, index: Any):
        super().__init__()
        self.index = index

    def forward(self, x: Any) -> Any:
        self.save(x.shape)
        taken = x[self.index]
        return taken if taken.flags.c_contiguous else taken.copy()

    def backward(self, gradient: Any) -> Any:
        (shape,) = self.saved
        xp = array_module(gradient)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if not any(_may_repeat(part) for part in parts):
            result = xp.zeros(shape, gradient.dtype)
            result[self.index] = gradient
            return result
        numbered = shape[:1] if len(parts) == 1 else shape  # whole rows, or single elements
        count = math.prod(numbered)
        taken = xp.arange(count).reshape(numbered)[self.index].reshape(-1)
        order = taken.argsort(kind="stable")
        splits = xp.searchsorted(taken[order], xp.arange(count + 1)).astype(np.int64, copy=False)
        rows = gradient.reshape(taken.size, math.prod(shape[len(numbered):]))
        return launch("segment_sum", xp.ascontiguousarray(rows[order]), splits).reshape(shape)


def _may_repeat(part: Any) -> bool:
    """Whether this part of an index is an array of integers."""
    return isinstance(part, list) or (getattr(part, "ndim", 0) > 0 and part.dtype.kind in "iu")


def reshape(x: Any, *shape: int | Sequence[int]) -> Tensor:
    """The elements in another shape, given as numbers or as one tuple; one of them may be -1."""
    wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return Reshape(tuple(wanted)).apply(x)


def index(x: Any, wanted: Any) -> Tensor:
    """x[wanted]: numbers, slices, None, ..., masks and arrays of integers, as in NumPy; Tensors, too."""
    def plain(part: Any) -> Any:
        return part.array if isinstance(part, Tensor) else part

    return Index(tuple(map(plain, wanted)) if isinstance(wanted, tuple) else plain(wanted)).apply(x)


def permute(x: Any, *axes: int | Sequence[int]) -> Tensor:
    """The axes in another order: axis i of the result is axis axes[i] of x.

    Raises ValueError unless each axis occurs once.
    """
    given = axes[0] if len(axes) == 1 and isinstance(axes[0], Sequence) else axes
    order = normalized_axes("permute", given, x.ndim)  # type: ignore[arg-type]
    if len(order) != x.ndim:
        raise ValueError(f"permute: axes are {tuple(given)}, expected each of the {x.ndim} axes once")
    return Permute(order).apply(x)


def transpose(x: Any, *axes: int) -> Tensor:
    """The tensor with two axes exchanged, as in PyTorch (NumPy's transpose is `permute`).

    Raises TypeError unless two axes are given, ValueError for an axis that the tensor lacks.
    """
    if len(axes) != 2:
        raise TypeError(f"transpose: got {len(axes)} axes, expected the two to exchange: use .T to reverse all of "
                        "them, .permute(...) for another order")
    first, second = (normalized_axes("transpose", axis, x.ndim)[0] for axis in axes)
    order = list(range(x.ndim))
    order[first], order[second] = second, first
    return Permute(tuple(order)).apply(x)


def clone(x: Any) -> Tensor:
    """A copy with memory of its own, through which gradients flow; for one outside the graph see `detach`."""
    return Clone().apply(x)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The tensors one after the other along an axis that they have (torch.cat).

    tensors : Tensors or arrays whose shapes agree but for that axis, brought to one dtype as the operands of `+` are

    Raises TypeError for a single Tensor and for SparseTensors, ValueError if there is none or the shapes do not fit.
    """
    parts = _several("concatenate", tensors)
    if not parts[0].ndim:
        raise ValueError("concatenate: the tensors have no axes, expected at least one: use sn.stack for numbers")
    (axis,) = normalized_axes("concatenate", (axis,), parts[0].ndim)
    shapes = [part.shape for part in parts]
    if len({(*shape[:axis], *shape[axis + 1:], len(shape)) for shape in shapes}) > 1:
        raise ValueError(f"concatenate: shapes are {', '.join(map(str, shapes))}, expected such that differ along axis "
                         f"{axis} alone")
    return Concatenate(axis).apply(*parts)


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The tensors, all of one shape, one after the other along a new axis.  Raises as `concatenate` does."""
    parts = _several("stack", tensors)
    shape = parts[0].shape
    if any(part.shape != shape for part in parts):
        raise ValueError(f"stack: shapes are {', '.join(str(part.shape) for part in parts)}, expected the same for all")
    (axis,) = normalized_axes("stack", (axis,), len(shape) + 1)
    return Concatenate(axis).apply(*(reshape(part, (*shape[:axis], 1, *shape[axis:])) for part in parts))


def _several(operation: str, tensors: Any) -> list[Tensor]:
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{operation}: tensors is {type(tensors).__name__}, expected a list of tensors")
    if any(hasattr(tensor, "sites") for tensor in tensors):
        raise TypeError(f"{operation}: got SparseTensors, expected Tensors: use sn.ops.concatenate(x, y) for the "
                        "channels of SparseTensors")
    if not tensors:
        raise ValueError(f"{operation}: the list is empty, expected at least one tensor")
    return operands(operation, *tensors)
