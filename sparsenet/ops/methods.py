"""The operators and methods of `Tensor`, from which a loss of one's own is written.

`autograd` knows no operations: the methods are attached to `Tensor` below, and type checkers take TensorMethods for its
base class.

Example
-------
The contrastive loss of Hadsell, Chopra, LeCun 2006: d^2 for two vectors of one class, else max(0, margin - d)^2.

>>> import sparsenet as sn
>>> def contrastive_loss(vectors, labels, margin=1.0):
...     labels, (count, channels) = sn.Tensor(labels), vectors.shape
...     difference = vectors.reshape(count, 1, channels) - vectors.reshape(1, count, channels)
...     distance = ((difference**2).sum(axis=2) + 1e-12).sqrt()  # sqrt has no finite gradient at 0
...     same = labels.reshape(-1, 1) == labels.reshape(1, -1)
...     return sn.where(same, distance**2, (margin - distance).clip(min=0) ** 2).mean()
>>> vectors = sn.Tensor([[0.0, 0.0], [0.0, 1.0], [0.5, 0.0]], requires_grad=True)
>>> loss = contrastive_loss(vectors, [0, 0, 1])
>>> loss.backward()
>>> f"{loss:.4f}", f"{vectors.grad[2, 0]:.4f}"
('0.2778', '-0.2222')
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import to_device
from sparsenet.ops import arithmetic, cast, comparison, elementwise, exponentials, reductions, shaping
from sparsenet.ops.operands import floating_point

_NAMES_OF_PYTORCH = {
    "amax": ".max(axis)", "amin": ".min(axis)", "clamp": ".clip(min, max)", "cpu": ".to('cpu')", "cuda": ".to('cuda')",
    "data": ".array", "dim": ".ndim", "double": ".to('float64')", "flatten": ".reshape(-1)", "float": ".to('float32')",
    "norm": "(x * x).sum(axis).sqrt()", "numel": ".size", "relu": "sn.maximum(x, 0)", "square": "x * x",
    "squeeze": ".reshape(...)", "t": ".T", "type": ".astype(dtype)", "unsqueeze": "x[None] or .reshape(...)",
    "view": ".reshape(...)",
}


class TensorMethods:
    """Operators, functions and conversions; each function is documented where it is defined."""

    array: Any
    requires_grad: Any
    __hash__ = object.__hash__

    # ---- operators ----

    def __add__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Add, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Add, other, self)

    def __sub__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Subtract, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Subtract, other, self)

    def __mul__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Multiply, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Multiply, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Divide, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return arithmetic.binary(arithmetic.Divide, other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return arithmetic.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return arithmetic.matmul(other, self)

    def __pow__(self, exponent: float) -> Tensor:
        return arithmetic.power(self, exponent)

    def __neg__(self) -> Tensor:
        return arithmetic.negate(self)

    def __abs__(self) -> Tensor:
        return elementwise.elementwise("abs", self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return comparison.compared(operator.eq, self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return comparison.compared(operator.ne, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return comparison.compared(operator.lt, self, other)

    def __le__(self, other: Any) -> Tensor:
        return comparison.compared(operator.le, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return comparison.compared(operator.gt, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return comparison.compared(operator.ge, self, other)

    def __and__(self, other: Any) -> Tensor:
        return comparison.combined("&", operator.and_, self, other)

    def __or__(self, other: Any) -> Tensor:
        return comparison.combined("|", operator.or_, self, other)

    def __xor__(self, other: Any) -> Tensor:
        return comparison.combined("^", operator.xor, self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Tensor:
        return comparison.inverted(self)

    # ---- functions of each element ----

    def exp(self) -> Tensor:
        """e to the power of each element."""
        return elementwise.elementwise("exp", self)

    def log(self) -> Tensor:
        """The natural logarithm; -inf at 0 and NaN below, with NumPy's warning."""
        return elementwise.elementwise("log", self)

    def sqrt(self) -> Tensor:
        """The square root; NaN below 0; its gradient at 0 is infinite."""
        return elementwise.elementwise("sqrt", self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent; see `ops.tanh`, but integers become float32."""
        return exponentials.tanh(floating_point("tanh", self))

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x)), without overflow; see `ops.sigmoid`, but integers become float32."""
        return exponentials.sigmoid(floating_point("sigmoid", self))

    def abs(self) -> Tensor:
        """The absolute value; its gradient at 0 is 0."""
        return elementwise.elementwise("abs", self)

    def clip(self, min: float | None = None, max: float | None = None) -> Tensor:
        """Each element, or the bound that it exceeds; see `ops.elementwise.clip`."""
        return elementwise.clip(self, min, max)

    # ---- reductions ----

    def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """The sum over one axis, several, or all."""
        return reductions.total(self, axis, keepdims, **unknown)

    def mean(self, axis: int | Sequence[int] | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """The mean over one axis, several, or all; NaN for no elements, as in NumPy."""
        return reductions.mean(self, axis, keepdims, **unknown)

    def max(self, axis: int | Sequence[int] | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """The largest element over one axis, several, or all, without its index, which `argmax` gives.  If several are
        equal the gradient goes to the first (one axis) or to each in equal shares (several axes or all)."""
        return reductions.extremum("max", self, axis, keepdims, **unknown)

    def min(self, axis: int | Sequence[int] | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """The smallest element; see `max`."""
        return reductions.extremum("min", self, axis, keepdims, **unknown)

    def argmax(self, axis: int | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """The index of the largest element, the first if several are equal; int64, not part of the graph."""
        return reductions.index_of_extremum("argmax", self, axis, keepdims, **unknown)

    def argmin(self, axis: int | None = None, keepdims: bool = False, **unknown: Any) -> Tensor:
        """The index of the smallest element, the first if several are equal; int64, not part of the graph."""
        return reductions.index_of_extremum("argmin", self, axis, keepdims, **unknown)

    # ---- shape, dtype, device ----

    def __getitem__(self, index: Any) -> Tensor:
        return shaping.index(self, index)

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The elements in another shape, given as numbers or as one tuple; one of them may be -1."""
        return shaping.reshape(self, *shape)

    def transpose(self, *axes: int) -> Tensor:
        """Two axes exchanged, as in PyTorch; see `permute` for NumPy's transpose."""
        return shaping.transpose(self, *axes)

    def permute(self, *axes: int | Sequence[int]) -> Tensor:
        """The axes in another order: axis i of the result is axis axes[i] of this tensor."""
        return shaping.permute(self, *axes)

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return shaping.permute(self, tuple(range(self.array.ndim))[::-1])

    def clone(self) -> Tensor:
        """A copy with memory of its own, through which gradients flow."""
        return shaping.clone(self)

    def astype(self, dtype: Any) -> Tensor:
        """The elements in another dtype; differentiable; see `ops.cast`."""
        return cast.cast(self, dtype)

    def to(self, device: Any = None, dtype: Any = None) -> Tensor:
        """This tensor on a device ("cpu", "cuda", "cuda:0"), in a dtype, or both; differentiable; see `ops.cast`."""
        return cast.to(self, device, dtype)

    if not TYPE_CHECKING:  # or every name would pass
        def __getattr__(self, name: str) -> Any:
            """Advice for names that PyTorch's tensors have and these do not.  Always raises AttributeError."""
            advice = f": use {_NAMES_OF_PYTORCH[name]}" if name in _NAMES_OF_PYTORCH else ""
            raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}{advice}", name=name,
                                 obj=self)

    # ---- values in Python and NumPy ----

    def numpy(self) -> np.ndarray:
        """The array as a NumPy array: the same memory on a CPU, a copy from a GPU."""
        return to_device(self.array, "cpu")

    if not TYPE_CHECKING:  # NumPy's annotations would take array * tensor, a Tensor, for an array
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            """The values, for `np.asarray(tensor)`.  Raises TypeError for an array on a GPU."""
            if self.device != "cpu":
                raise TypeError("Tensor: NumPy asks for an array that is on cuda: copy it with .numpy()")
            return np.array(self.array, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        """The array for another library, in the same memory: `torch.from_dlpack(tensor)`; writing there needs
        `mark_modified`.  Raises BufferError if this tensor requires a gradient, which would be lost."""
        if self.requires_grad:
            raise BufferError("Tensor: it requires a gradient, which another library would lose: give it .detach()")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers; a single number if there are no axes."""
        return self.numpy().tolist()

    def item(self) -> float:
        """The one element, as a Python number.  Raises ValueError unless there is exactly one."""
        return _only_element(self, "item", "reduce it with .sum() or .mean(), or copy it with .numpy()")

    def __float__(self) -> float:
        """The one element.  Raises ValueError unless there is exactly one."""
        return float(_only_element(self, "float", "reduce it with .sum() or .mean()"))

    def __int__(self) -> int:
        """The one element, without its fraction.  Raises ValueError unless there is exactly one."""
        return int(_only_element(self, "int", "take one with an index"))

    def __bool__(self) -> bool:
        """Whether the one element is not zero.  Raises ValueError unless there is exactly one."""
        return bool(_only_element(self, "bool", "compare arrays with .numpy(), then .all() or .any()"))

    def __format__(self, specification: str) -> str:
        """f"{loss:.4f}" formats the one element; without a specification, the repr of any tensor."""
        return format(self.item(), specification) if specification else str(self)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        """The rows, each a Tensor.  Raises TypeError for a single number."""
        if not self.array.ndim:
            raise TypeError("Tensor: a single number has no rows to iterate over: read it with .item()")
        return (self[i] for i in range(len(self)))


def _only_element(tensor: Any, operation: str, advice: str) -> Any:
    if tensor.size != 1:
        raise ValueError(f"{operation}: the tensor has shape {tensor.shape}, expected one element: {advice}")
    return tensor.array.item()


for _name, _member in vars(TensorMethods).items():
    if isinstance(_member, FunctionType):
        _member.__qualname__ = f"Tensor.{_name}"  # as error messages name it
    if isinstance(_member, FunctionType | property):
        setattr(Tensor, _name, _member)
