"""Operands of operations on dense Tensors: one dtype for all of them, shapes that broadcast, axes."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sparsenet.autograd import Tensor, rectangular
from sparsenet.backend import array_module
from sparsenet.ops.cast import Cast

_CATEGORIES = {"b": 0, "i": 1, "u": 1, "f": 2}  # of dtypes, by their kind


def check_broadcast(operation: str, *shapes: tuple[int, ...]) -> None:
    """Raise ValueError unless the shapes broadcast; the message lists them in the order of the operands."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        listed = ", ".join(map(str, shapes[:-1])) + f" and {shapes[-1]}"
        raise ValueError(f"{operation}: shapes are {listed}, expected shapes that broadcast: each axis, counted "
                         "from the last, equal in all of them, or 1") from None


def refuse_keywords(operation: str, keywords: dict[str, Any]) -> None:
    """Raise TypeError if there are keyword arguments of other names, such as PyTorch's dim."""
    if keywords:
        raise TypeError(f"{operation}: arguments are called {', '.join(keywords)}, expected axis (PyTorch's dim), "
                        "keepdims (PyTorch's keepdim)")


def normalized_axes(operation: str, axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The axes as numbers from 0 to ndim - 1; None means all of them.  Raises ValueError for other or repeated axes."""
    given = range(ndim) if axis is None else axis if isinstance(axis, Sequence) else (axis,)
    for one in given:
        if isinstance(one, bool) or not isinstance(one, numbers.Integral):
            raise TypeError(f"{operation}: axis is {one!r}, expected an integer")
        if not -ndim <= one < ndim:
            raise ValueError(f"{operation}: axis is {one}, the tensor has {ndim} axes: "
                             + (f"expected a number from {-ndim} to {ndim - 1}" if ndim else "leave the axis out"))
    axes = tuple(int(one) % ndim for one in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{operation}: axes are {tuple(given)}, expected each once")
    return axes


class _Literal(NamedTuple):
    """A number, or a list of numbers, and the dtype that it would have alone: bool, int64 or float32."""

    value: Any
    dtype: np.dtype


def operands(operation: str, *values: Any, floating: bool = False) -> list[Tensor]:
    """The values as Tensors of one dtype, by PyTorch's rules for mixed operands.

    values : Tensors, arrays, numbers or lists of numbers
    floating : whether integers and truth values become float32, as for a quotient

    The dtype is that of the tensors and arrays with axes.  One without axes decides only if it is of a higher category
    (bool < integer < floating-point) than those; Python's and NumPy's numbers, and lists, only if they are of a higher
    category than both, and then as bool, int64 or float32.  Integers of two dtypes meet in one that holds both.
    Unlike in PyTorch, arrays of two floating-point dtypes raise, so that nothing becomes float64 unnoticed.

    Raises TypeError for such dtypes, and for a value that does not hold real numbers.
    """
    tensor = next((value for value in values if isinstance(value, Tensor)), None)
    if tensor is not None and tensor.dtype.kind == "f" and all(
            value.dtype == tensor.dtype if isinstance(value, Tensor) else isinstance(value, numbers.Real)
            for value in values):  # the common case, for which the rules below need not be gone through
        asarray, dtype = array_module(tensor.array).asarray, tensor.dtype
        return [value if isinstance(value, Tensor) else Tensor(asarray(value, dtype=dtype)) for value in values]
    given = [_tensor_or_literal(operation, value) for value in values]
    groups = ([one.dtype for one in given if isinstance(one, Tensor) and one.ndim],
              [one.dtype for one in given if isinstance(one, Tensor) and not one.ndim],
              [one.dtype for one in given if isinstance(one, _Literal)])
    dtype = max((_promoted(operation, group) for group in groups if group),
                key=lambda dtype: _CATEGORIES[dtype.kind])  # the first of those that share the highest category
    if floating and dtype.kind != "f":
        dtype = np.dtype(np.float32)
    xp = array_module(*(one.array for one in given if isinstance(one, Tensor)))
    return [Tensor(xp.asarray(one.value, dtype=dtype)) if isinstance(one, _Literal) else
            one if one.dtype == dtype else Cast(dtype).apply(one) for one in given]


def _tensor_or_literal(operation: str, value: Any) -> Tensor | _Literal:
    if isinstance(value, (list, tuple)):
        array = rectangular(operation, value)
        if array.dtype.kind not in _CATEGORIES:
            raise TypeError(f"{operation}: a list holds {array.dtype}, expected real numbers")
        return _Literal(value, np.dtype({"b": bool, "f": np.float32}.get(array.dtype.kind, np.int64)))
    if isinstance(value, bool | np.bool_):
        return _Literal(value, np.dtype(bool))
    if isinstance(value, numbers.Real):
        return _Literal(value, np.dtype(np.int64 if isinstance(value, numbers.Integral) else np.float32))
    return value if isinstance(value, Tensor) else Tensor(value)


def _promoted(operation: str, dtypes: Sequence[np.dtype]) -> np.dtype:
    """The dtype in which several of one rank meet."""
    highest = max(_CATEGORIES[dtype.kind] for dtype in dtypes)
    found = list(dict.fromkeys(dtype for dtype in dtypes if _CATEGORIES[dtype.kind] == highest))
    promoted = found[0] if len(found) == 1 else np.result_type(*found)
    if len(found) > 1 and promoted.kind == "f":
        raise TypeError(f"{operation}: dtypes are {' and '.join(map(str, found))}, expected the same: convert one of "
                        "the arrays with .astype")
    return promoted


def floating_point(operation: str, x: Any) -> Tensor:
    """x as a Tensor of a floating-point dtype; integers and truth values become float32."""
    return operands(operation, x, floating=True)[0]
