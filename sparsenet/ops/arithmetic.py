"""The arithmetic operators of `Tensor`: + - * / @ ** and negation.

Operands broadcast as in NumPy; their gradients are summed over the axes that broadcasting added or stretched.  Numbers
take the dtype of the tensor, integers that of the floating-point operand: `arguments.operands` states the rules.
"""

from __future__ import annotations

import numbers
from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.operands import check_broadcast, floating_point, operands
from sparsenet.sparse import SparseTensor


class Add(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape)
        return a + b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b_shape = self.saved
        return (sum_to(gradient, a_shape) if self.needs[0] else None,
                sum_to(gradient, b_shape) if self.needs[1] else None)


class Subtract(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape)
        return a - b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b_shape = self.saved
        return (sum_to(gradient, a_shape) if self.needs[0] else None,
                sum_to(-gradient, b_shape) if self.needs[1] else None)


class Multiply(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape, a if self.needs[1] else None, b if self.needs[0] else None)
        return a * b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b_shape, a, b = self.saved
        return (sum_to(gradient * b, a_shape) if self.needs[0] else None,
                sum_to(gradient * a, b_shape) if self.needs[1] else None)


class Divide(Function):
    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b, a if self.needs[1] else None)
        return a / b

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        a_shape, b, a = self.saved
        return (sum_to(gradient / b, a_shape) if self.needs[0] else None,
                sum_to(-gradient * a / (b * b), b.shape) if self.needs[1] else None)


class Negate(Function):
    def forward(self, x: Any) -> Any:
        return -x

    def backward(self, gradient: Any) -> Any:
        return -gradient


class Power(Function):
    """x to the power of a constant number; the gradient of x**0 is 0, also at 0."""

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
    """(M, K) @ (K, N).  On a CPU each row of the result depends on its own row of `a` alone, in training too: an
    operator has no modes."""

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


def sum_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The sum over the axes that broadcasting added to `shape` or stretched."""
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    stretched = tuple(i + added for i, side in enumerate(shape) if side == 1)
    return gradient.sum(axis=tuple(range(added)) + stretched, keepdims=True).reshape(shape)


def binary(function: type[Function], a: Any, b: Any) -> Any:
    """a and b combined by an elementwise function, in the order in which they stand.

    Raises ValueError if their shapes do not broadcast, TypeError if their dtypes do not agree.
    """
    if isinstance(a, SparseTensor) or isinstance(b, SparseTensor):
        return NotImplemented  # SparseTensor's own operators take it
    a, b = operands(function.__name__, a, b, floating=function is Divide)
    if a.shape != b.shape:
        check_broadcast(function.__name__, a.shape, b.shape)
    return function().apply(a, b)


def negate(x: Any) -> Tensor:
    """-x"""
    return Negate().apply(x)


def power(x: Any, exponent: float) -> Tensor:
    """x to the power of a number.  An integer power of integers is an integer; otherwise integers become float32.

    Raises TypeError if the exponent is not a number.
    """
    if not isinstance(exponent, numbers.Real):
        raise TypeError(f"Power: exponent is {type(exponent).__name__}, expected a number: a power of two tensors is "
                        "(y * x.log()).exp()")
    if x.dtype.kind != "f" and isinstance(exponent, numbers.Integral):
        return Power(int(exponent)).apply(x)
    return Power(float(exponent)).apply(floating_point("Power", x))


def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product (M, K) @ (K, N), a Tensor (M, N).

    Raises ValueError for other shapes, TypeError if the dtypes do not agree.
    """
    a, b = operands("MatMul", a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"MatMul: shapes are {a.shape} and {b.shape}, expected (M, K) and (K, N)")
    return MatMul().apply(a, b)
