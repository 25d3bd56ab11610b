"""The comparisons == != < <= > >= of `Tensor` and the logical operators & | ^ ~ of their results: elementwise, as in
PyTorch.  The results, of bool, are not part of the graph.

Shapes broadcast and dtypes promote as in NumPy.  The numbers in a list are first rounded to the tensor's dtype, as a
single number is.  The hash of a Tensor is by identity: use `is` to find one among others.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor, rectangular
from sparsenet.backend import device_of
from sparsenet.ops.operands import check_broadcast


def compared(compare: Callable[[Any, Any], Any], x: Any, other: Any) -> Any:
    """compare(x, other), elementwise; NotImplemented if `other` does not hold numbers.

    compare : one of the six comparisons in the module `operator`

    Raises ValueError if the shapes do not broadcast, TypeError if the devices differ.
    """
    value = _operand(other, x.dtype)
    if value is NotImplemented:
        return NotImplemented
    if not isinstance(value, int | float | complex | np.generic):
        device_of(x.array, value)  # raises if they differ
        check_broadcast(compare.__name__, x.shape, value.shape)
    return Tensor(compare(x.array, value))


def combined(symbol: str, combine: Callable[[Any, Any], Any], x: Any, other: Any) -> Tensor:
    """combine(x, other), elementwise, of truth values: Tensors, arrays or a bool.

    combine : and_, or_ or xor in the module `operator`;  symbol : the operator, for messages

    Raises TypeError if one is not bool or the devices differ, ValueError if the shapes do not broadcast.
    """
    value = other.array if isinstance(other, Tensor) else other
    for one in (x.array, value):
        dtype = getattr(one, "dtype", np.dtype(bool) if isinstance(one, bool) else type(one).__name__)
        if dtype != np.dtype(bool):
            raise TypeError(f"{symbol}: an operand is {dtype}, expected bool: compare first, and in brackets, as in "
                            f"(x > 0) {symbol} (y > 0)")
    if not isinstance(value, bool | np.generic):
        device_of(x.array, value)  # raises if they differ
        check_broadcast(symbol, x.shape, value.shape)
    return Tensor(combine(x.array, value))


def inverted(x: Any) -> Tensor:
    """Not x, elementwise, a Tensor of bool.  Raises TypeError if x is not bool."""
    if x.dtype != bool:
        raise TypeError(f"~: the operand is {x.dtype}, expected bool: compare first, and in brackets, as in ~(x > 0)")
    return Tensor(~x.array)


def _operand(other: Any, dtype: np.dtype) -> Any:
    """`other` in a form that an array of `dtype` can be compared with; NotImplemented if it does not hold numbers."""
    if isinstance(other, Tensor):
        return other.array
    if isinstance(other, (list, tuple)):
        array = rectangular("Tensor", other)
        if array.dtype.kind not in "biuf":
            return NotImplemented
        return array.astype(dtype) if array.dtype.kind == dtype.kind == "f" else array
    if isinstance(other, int | float | complex) or hasattr(other, "dtype"):
        return other
    return float(other) if isinstance(other, numbers.Number) else NotImplemented  # fractions and decimals
