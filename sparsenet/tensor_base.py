"""What a Tensor shows of its array, and the operators that `ops.arithmetic` gives it.

`autograd.Tensor` adds the graph.  The operators are declared here, so that editors and type checkers know
them; what they do stands with the other operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import device_of, to_device

if TYPE_CHECKING:
    from sparsenet.autograd import Tensor


class TensorBase:
    """An array, NumPy's or CuPy's, behind properties."""

    __array_ufunc__ = None  # array * tensor is Tensor.__rmul__, not NumPy's loop over elements
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

    def item(self) -> float:
        """The one element, as a Python number."""
        return self._array.item()

    def numpy(self) -> np.ndarray:
        """The array as NumPy's: the same memory on a CPU, a copy from a GPU."""
        return to_device(self._array, "cpu")

    if not TYPE_CHECKING:  # NumPy's annotations would take array * tensor, a Tensor, for an array
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            """What `np.asarray(tensor)` takes: the values.  Raises TypeError for an array on a GPU."""
            if self.device != "cpu":
                raise TypeError("Tensor: NumPy asks for an array that is on cuda: copy it with .numpy()")
            return np.array(self._array, dtype=dtype, copy=copy)

    if TYPE_CHECKING:  # defined in ops/arithmetic.py and ops/cast.py
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

    Raises TypeError for what is no array.
    """
    if value is None:
        raise TypeError("Tensor: array is None, expected a NumPy or CuPy array, a number or a list")
    if isinstance(value, (int, float, list, tuple)) and not isinstance(value, np.generic):
        value = np.asarray(value)
        value = value.astype(np.float32) if value.dtype == np.float64 else value
    device_of(value)  # raises for what is no array
    return np.asarray(value) if isinstance(value, np.generic) else value


def check_floating(array: Any, requires_grad: bool) -> None:
    """Raise TypeError where an array that requires a gradient is not floating-point."""
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"Tensor: array is {array.dtype}, which can not require a gradient: make it float32")


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
