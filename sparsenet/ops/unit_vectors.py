"""Unit vectors and cosines, as the losses of descriptors use them: in float64, whatever the dtype of the rows.

A batch of descriptors is a small matrix, so these losses are written in the array module, above the kernels.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import HALF, array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.ops.cast import cast


def unit_vectors(rows: Any) -> tuple[Any, Any]:
    """u = x / |x| of each row: units (N, C) and norms (N, 1), both float64.  A zero row stays zero.

    Rows are divided by their largest number first, so that no square overflows.
    """
    xp = array_module(rows)
    wide = xp.ascontiguousarray(rows, dtype=np.float64)
    largest = abs(wide).max(axis=1, keepdims=True)
    scaled = wide / xp.where(largest > 0, largest, 1.0)
    norms = xp.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return scaled / xp.where(norms > 0, norms, 1.0), largest * norms


def unit_gradient(gradient: Any, units: Any, norms: Any) -> Any:
    """The gradient of x from that of u = x / |x|: (g - u (u g)) / |x|; 0 for a zero row, which has no direction."""
    xp = array_module(gradient)
    across = gradient - units * (units * gradient).sum(axis=1, keepdims=True)
    return xp.where(norms > 0, across / xp.where(norms > 0, norms, 1.0), 0.0)


def product(a: Any, b: Any) -> Any:
    """a (M, K) times b (K, N), with the same bits for any number of threads."""
    xp = array_module(a, b)
    return launch("matmul", xp.ascontiguousarray(a), xp.ascontiguousarray(b))


def one_hot(labels: Any, classes: int) -> Any:
    """(B, classes) float64: 1 at each row's label, else 0.  A product with it sums rows by class in a fixed order."""
    xp = array_module(labels)
    return (labels[:, None] == xp.arange(classes)[None]).astype(np.float64)


def check_rows(operation: str, name: str, rows: Any, like: Tensor | None = None) -> Tensor:
    """Rows (N, C) as a Tensor of float32 or float64; float16 is converted to float32.

    like : Tensor whose dtype and number of channels they must have

    Raises TypeError or ValueError, which name the operation and the argument.
    """
    check_tensor(operation, name, rows)
    if rows.dtype.kind != "f":
        raise TypeError(f"{operation}: {name} are {rows.dtype}, expected floating-point numbers: convert them with "
                        ".astype('float32')")
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{operation}: {name} have shape {rows.shape}, expected (N, C), C at least 1")
    rows = cast(rows, np.float32) if rows.dtype == HALF else rows
    if like is not None:
        if rows.shape[1] != like.shape[1]:
            raise ValueError(f"{operation}: {name} have shape {rows.shape}, expected {like.shape[1]} columns, as many "
                             "as the descriptors have")
        check_dtype(operation, name, rows, like)
    return rows


def check_dtype(operation: str, name: str, rows: Tensor, like: Tensor) -> None:
    """Raise TypeError if the dtype is not that of the descriptors."""
    if rows.dtype != like.dtype:
        raise TypeError(f"{operation}: {name} are {rows.dtype}, the descriptors are {like.dtype}: convert one of them")


def checked_number(operation: str, name: str, value: Any, least: float = 0.0, above: bool = False,
                   most: float = math.inf) -> float:
    """A finite number from `least` (or above it) to `most`.  Raises TypeError or ValueError for another."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{operation}: {name} is {value!r}, expected a number")
    number = float(value)
    if not (math.isfinite(number) and (number > least if above else number >= least) and number <= most):
        limit = f"above {least:g}" if above else f"at least {least:g}"
        raise ValueError(f"{operation}: {name} is {value}, expected a finite number {limit}"
                         f"{f' and at most {most:g}' if most < math.inf else ''}")
    return number
