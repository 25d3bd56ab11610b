"""== != < <= > >= of a `Tensor`: elementwise, as in PyTorch, a Tensor of bool that is not part of the graph.

Shapes broadcast and dtypes promote as in NumPy; the numbers of a list are rounded to the tensor's dtype first,
as a single number is.  A Tensor keeps its hash, by identity: compare with `is` to find one among others.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import device_of
from sparsenet.ops.arithmetic import check_broadcast
from sparsenet.tensor_base import rectangular


def _operand(other: Any, dtype: np.dtype) -> Any:
    """`other` as something that an array of `dtype` is compared with; NotImplemented if it holds no numbers."""
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


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    def method(self: Tensor, other: Any) -> Any:
        value = _operand(other, self.dtype)
        if value is NotImplemented:
            return NotImplemented
        if not isinstance(value, int | float | complex | np.generic):
            device_of(self.array, value)  # raises if they differ
            check_broadcast(compare.__name__, self.shape, value.shape)
        return Tensor(compare(self.array, value))

    return method


Tensor.__eq__ = _comparison(operator.eq)
Tensor.__ne__ = _comparison(operator.ne)
Tensor.__lt__ = _comparison(operator.lt)
Tensor.__le__ = _comparison(operator.le)
Tensor.__gt__ = _comparison(operator.gt)
Tensor.__ge__ = _comparison(operator.ge)
