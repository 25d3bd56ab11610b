"""The operators and reductions of `Tensor`: + - * / @ ** negation, sum, mean, reshape, indexing.

Operands broadcast as in NumPy, and a gradient is summed back over what was broadcast.  Numbers take
the dtype of the tensor they meet; arrays and tensors must agree in theirs, so that nothing becomes
float64 unseen.  `tensor_base` declares them all.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import HALF, array_module, wide_dtype
from sparsenet.kernels import launch


class Add(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape)
        return a + b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b_shape = self.saved
        return (_sum_to(gradient, a_shape) if self.needs[0] else None,
                _sum_to(gradient, b_shape) if self.needs[1] else None)


class Subtract(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape)
        return a - b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b_shape = self.saved
        return (_sum_to(gradient, a_shape) if self.needs[0] else None,
                _sum_to(-gradient, b_shape) if self.needs[1] else None)


class Multiply(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape, a if self.needs[1] else None, b if self.needs[0] else None)
        return a * b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b_shape, a, b = self.saved
        return (_sum_to(gradient * b, a_shape) if self.needs[0] else None,
                _sum_to(gradient * a, b_shape) if self.needs[1] else None)


class Divide(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b, a if self.needs[1] else None)
        return a / b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b, a = self.saved
        return (_sum_to(gradient / b, a_shape) if self.needs[0] else None,
                _sum_to(-gradient * a / (b * b), b.shape) if self.needs[1] else None)


class Negate(Function):
    def forward(self, x: Any) -> Any:
        return -x

    def backward(self, gradient: Any) -> Any:
        return -gradient


class Power(Function):
    """x to a constant number; the gradient of x**0 is 0, at 0 too."""

    def __init__(self, exponent: float):
        super().__init__()
        self.exponent = exponent

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x**self.exponent

    def backward(self, gradient: Any) -> Any:
        (x,) = self.saved
        if self.exponent == 0:
            return array_module(x).zeros_like(gradient)
        return gradient * (self.exponent * x ** (self.exponent - 1))


class MatMul(Function):
    """(M, K) @ (K, N).  On a CPU each row of the result depends on its own row of `a` alone, in every mode: an operator
    knows of none."""

    def forward(self, a: Any, b: Any) -> Any:
        xp = array_module(a)
        self.save(a if self.needs[1] else None, b if self.needs[0] else None)
        return launch("matmul_by_row", xp.ascontiguousarray(a), xp.ascontiguousarray(b))

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a, b = self.saved
        xp = array_module(gradient)
        gradient = xp.ascontiguousarray(gradient)
        return (launch("matmul", gradient, xp.ascontiguousarray(b.T)) if self.needs[0] else None,
                launch("matmul", xp.ascontiguousarray(a.T), gradient) if self.needs[1] else None)


class Sum(Function):
    def __init__(self, axis: int | Sequence[int] | None, keepdims: bool):
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


class Index(Function):
    """x[index]; where an array of integers takes an element several times its gradients add up, in a
    fixed order."""

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
        numbered = shape[:1] if len(parts) == 1 else shape  # whole rows, or element by element
        count = math.prod(numbered)
        taken = xp.arange(count).reshape(numbered)[self.index].reshape(-1)
        order = taken.argsort(kind="stable")
        splits = xp.searchsorted(taken[order], xp.arange(count + 1)).astype(np.int64, copy=False)
        rows = gradient.reshape(taken.size, math.prod(shape[len(numbered):]))
        return launch("segment_sum", xp.ascontiguousarray(rows[order]), splits).reshape(shape)


def _may_repeat(part: Any) -> bool:
    """Whether this part of an index is an array of integers."""
    return isinstance(part, list) or (getattr(part, "ndim", 0) > 0 and part.dtype.kind in "iu")


def _sum_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes that broadcasting added or stretched from `shape`."""
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    stretched = tuple(i + added for i, side in enumerate(shape) if side == 1)
    return gradient.sum(axis=tuple(range(added)) + stretched, keepdims=True).reshape(shape)


def _operand(name: str, value: Any, other: Tensor) -> Tensor:
    """`value` as a Tensor that fits `other`."""
    if isinstance(value, numbers.Real):
        if other.dtype.kind != "f" and not isinstance(value, numbers.Integral):
            raise TypeError(f"{name}: {value!r} meets a tensor of {other.dtype}: convert the tensor's array "
                            "with .astype('float32')")
        return Tensor(array_module(other.array).asarray(value, dtype=other.dtype))
    tensor = value if isinstance(value, Tensor) else Tensor(value)
    if tensor.dtype != other.dtype:
        raise TypeError(f"{name}: dtypes are {other.dtype} and {tensor.dtype}, expected the same: convert "
                        "one of the arrays with .astype")
    return tensor


def check_broadcast(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Raise ValueError unless the shapes broadcast, in the order in which the operands stand."""
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        raise ValueError(f"{name}: shapes are {a} and {b}, expected such as broadcast: each axis, counted "
                         "from the last, equal in both, or 1 in one of them") from None


def _binary(function: type[Function], swapped: bool = False) -> Any:
    def operator(self: Tensor, other: Any) -> Tensor:
        other = _operand(function.__name__, other, self)
        if other.shape and other.shape != self.shape:
            check_broadcast(function.__name__, *((other.shape, self.shape) if swapped else (self.shape, other.shape)))
        return function().apply(other, self) if swapped else function().apply(self, other)

    return operator


def _power(self: Tensor, exponent: float) -> Tensor:
    if not isinstance(exponent, numbers.Real):
        raise TypeError(f"Power: exponent is {type(exponent).__name__}, expected a number")
    return Power(float(exponent)).apply(self)


def _matmul(self: Tensor, other: Tensor) -> Tensor:
    other = _operand("MatMul", other, self)
    if self.ndim != 2 or other.ndim != 2 or self.shape[1] != other.shape[0]:
        raise ValueError(f"MatMul: shapes are {self.shape} and {other.shape}, expected (M, K) and (K, N)")
    return MatMul().apply(self, other)


def _sum(self: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
    """Sum over one axis, several, or all."""
    _refuse("sum", unknown)
    return Sum(axis, keepdims).apply(self)


def _mean(self: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
    """Mean over one axis, several, or all; of no elements it is NaN, as in NumPy."""
    _refuse("mean", unknown)
    if self.dtype == HALF:  # in which neither the sum nor the number of elements need fit
        return _mean(self.astype(wide_dtype(HALF)), axis, keepdims).astype(HALF)
    total = Sum(axis, keepdims).apply(self)
    return total / (self.size / max(1, total.size)) if self.size else total * float("nan")


def _refuse(name: str, unknown: dict[str, Any]) -> None:
    """Raise TypeError where there are arguments of other names, such as PyTorch's dim."""
    if unknown:
        raise TypeError(f"{name}: arguments are called {', '.join(unknown)}, expected axis (PyTorch's dim), keepdims "
                        "(PyTorch's keepdim)")


def _reshape(self: Tensor, *shape: int | Sequence[int]) -> Tensor:
    """The elements in another shape, given as numbers or as one tuple; one of them may be -1."""
    wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return Reshape(tuple(wanted)).apply(self)


def _getitem(self: Tensor, index: Any) -> Tensor:
    def plain(part: Any) -> Any:
        return part.array if isinstance(part, Tensor) else part

    return Index(tuple(map(plain, index)) if isinstance(index, tuple) else plain(index)).apply(self)


Tensor.__add__ = _binary(Add)
Tensor.__radd__ = _binary(Add, swapped=True)
Tensor.__sub__ = _binary(Subtract)
Tensor.__rsub__ = _binary(Subtract, swapped=True)
Tensor.__mul__ = _binary(Multiply)
Tensor.__rmul__ = _binary(Multiply, swapped=True)
Tensor.__truediv__ = _binary(Divide)
Tensor.__rtruediv__ = _binary(Divide, swapped=True)
Tensor.__matmul__ = _matmul
Tensor.__neg__ = lambda self: Negate().apply(self)
Tensor.__pow__ = _power
Tensor.__getitem__ = _getitem
Tensor.sum = _sum
Tensor.mean = _mean
Tensor.reshape = _reshape
