"""What a Tensor shows of its array, and the operators that `ops.arithmetic` gives it.

`autograd.Tensor` adds the graph.  The operators are declared here, so that editors and type checkers know
them; what they do stands with the other operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import device_of, to_device

if TYPE_CHECKING:
    from sparsenet.autograd import Tensor


class TensorBase:
    """An array, NumPy's or CuPy's, behind properties."""

    __array_ufunc__ = None  # array * tensor is Tensor.__rmul__, not NumPy's loop over elements
    __hash__ = object.__hash__  # by identity, although == is elementwise
    _array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def device(self) -> str:
        """"cpu" or "cuda"."""
        return device_of(self._array)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        """The rows, each a Tensor.  Raises TypeError for a single number."""
        if not self.ndim:
            raise TypeError("Tensor: a single number has no rows to go through: take it with .item()")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        """Whether the one element is not zero.  Raises ValueError unless there is one."""
        return bool(self._only_element("bool", "compare arrays with .numpy(), then .all() or .any()"))

    def __float__(self) -> float:
        """The one element.  Raises ValueError unless there is one."""
        return float(self._only_element("float", "reduce it with .sum() or .mean()"))

    def _only_element(self, operation: str, advice: str) -> Any:
        if self.size != 1:
            raise ValueError(f"{operation}: the tensor has shape {self.shape}, expected one element: {advice}")
        return self._array.item()

    def item(self) -> float:
        """The one element, as a Python number.  Raises ValueError unless there is one."""
        return self._only_element("item", "reduce it with .sum() or .mean(), or copy it with .numpy()")

    def numpy(self) -> np.ndarray:
        """The array as NumPy's: the same memory on a CPU, a copy from a GPU."""
        return to_device(self._array, "cpu")

    if not TYPE_CHECKING:  # NumPy's annotations would take array * tensor, a Tensor, for an array
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            """What `np.asarray(tensor)` takes: the values.  Raises TypeError for an array on a GPU."""
            if self.device != "cpu":
                raise TypeError("Tensor: NumPy asks for an array that is on cuda: copy it with .numpy()")
            return np.array(self._array, dtype=dtype, copy=copy)

    if TYPE_CHECKING:  # defined in ops/arithmetic.py, ops/cast.py and ops/comparison.py
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __pow__(self, exponent: float) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...

        def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
            """Sum over one axis, several, or all."""

        def mean(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
            """Mean over one axis, several, or all; of no elements it is NaN, as in NumPy."""

        def astype(self, dtype: Any) -> Tensor:
            """The numbers in another dtype; differentiable; see `ops.cast`."""

        def reshape(self, *shape: int | Sequence[int]) -> Tensor:
            """The elements in another shape, given as numbers or as one tuple; one of them may be -1."""


def as_array(value: Any) -> Any:
    """`value` as a NumPy or CuPy array: numbers and lists become NumPy's, floats among them float32.

    Raises TypeError for what is not an array of real numbers, ValueError for lists of different lengths.
    """
    if value is None:
        raise TypeError("Tensor: array is None, expected a NumPy or CuPy array, a number or a list")
    if isinstance(value, (int, float, list, tuple)) and not isinstance(value, np.generic):
        value = rectangular("Tensor", value)
        value = value.astype(np.float32) if value.dtype == np.float64 else value
    device_of(value)  # raises for what is no array
    if value.dtype.kind not in "biuf":
        raise TypeError(f"Tensor: array is {value.dtype}, expected real numbers")
    return np.asarray(value) if isinstance(value, np.generic) else value


def rectangular(operation: str, value: Any) -> np.ndarray:
    """A number or lists of numbers as an array.  Raises ValueError if lists side by side differ in length."""
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{operation}: lists side by side differ in length or depth, expected rows of one "
                         "length") from None


def check_floating(array: Any, requires_grad: bool) -> None:
    """Raise TypeError where an array that requires a gradient is not floating-point."""
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"Tensor: array is {array.dtype}, which can not require a gradient: make it float32")


def check_tensor(operation: str, name: str, value: Any, expected: str = "a Tensor") -> None:
    """Raise TypeError unless the argument of that name is a Tensor."""
    if not isinstance(value, TensorBase):
        raise TypeError(f"{operation}: {name} is {type(value).__name__}, expected {expected}: wrap an array with "
                        "Tensor(array)")


def tensors_in(value: Any) -> list[Any]:
    """The Tensors in an input or output: itself, a SparseTensor's features and background, or a sequence's."""
    if isinstance(value, TensorBase):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in tensors_in(part)]
    parts = (getattr(value, "features", None), getattr(value, "background", None))
    return [part for part in parts if isinstance(part, TensorBase)]


def check_gradient(name: str, gradient: Any, tensor: Any) -> Any:
    """The gradient, C-contiguous, if it has the tensor's shape and dtype; else ValueError."""
    gradient = as_array(gradient)
    if gradient.shape != tensor.shape or gradient.dtype != tensor.dtype:
        raise ValueError(f"{name}: gradient is {gradient.dtype} {gradient.shape}, expected {tensor.dtype} "
                         f"{tensor.shape}, as the tensor")
    return gradient if gradient.flags.c_contiguous else gradient.copy()
