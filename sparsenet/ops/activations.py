"""Activations in general: a function of each row, of a Tensor, or of a SparseTensor's sites and its background alike.

The kernels of an activation map the rows of the sites and the background in one launch.  `leaky_relu`, `exponentials`,
`prelu` and `softmax` have the activations.
"""

from __future__ import annotations

from math import prod
from typing import Any, TypeVar

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import SparseTensor

X = TypeVar("X", bound=Tensor | SparseTensor)  # what comes in, and is given back


class Activation(Function):
    """A function of each row, and in the same launch of the background: by the kernels `kernel`_forward (rows,
    *settings, background) and `kernel`_backward (kept, gradients, *settings, background kept, its gradients).

    keeps_output : backward reads the output, else the input
    """

    def __init__(self, name: str, kernel: str, keeps_output: bool, *settings: Any):
        super().__init__()
        self.name, self.kernel, self.keeps_output, self.settings = name, kernel, keeps_output, settings

    def forward(self, x: Any, background: Any) -> Any:
        inputs = (x,) if background is None else (x, background)
        first, *more = map(rows_of, inputs)
        rows = launch(f"{self.kernel}_forward", first, *self.settings, *more)
        results = _in_shape(rows, inputs)
        self.save(*(results if self.keeps_output else inputs))
        return results if more else results[0]

    def backward(self, *gradients: Any) -> tuple[Any, ...]:
        """One launch computes both gradients."""
        pairs = [pair for pair in zip(self.saved, gradients, strict=True) if pair[1] is not None]
        first, *more = [tuple(map(rows_of, pair)) for pair in pairs]
        rows = launch(f"{self.kernel}_backward", *first, *self.settings, *(row for pair in more for row in pair))
        present = iter(_in_shape(rows, [gradient for _, gradient in pairs]))
        results = [None if gradient is None else next(present) for gradient in gradients]
        return (*results, None)[:2]  # without a background it has no gradient


def mapped(function: Function, x: Any, *parameters: Tensor) -> Any:
    """The function of a Tensor, or of a SparseTensor's features and background.  Raises TypeError if x is neither."""
    if not isinstance(x, SparseTensor):
        check_tensor(function.name, "the input", x, "a Tensor or SparseTensor")
        return function.apply(x, None, *parameters)
    if x.background is None:
        return x.with_features(function.apply(x.features, None, *parameters), None)
    return x.with_features(*function.apply(x.features, x.background, *parameters))


def rows_of(array: Any) -> Any:
    """A contiguous array of any number of axes as rows (N, C) along its last one; a vector is one row."""
    shape = array.shape or (1,)
    return array_module(array).ascontiguousarray(array).reshape(prod(shape[:-1]), shape[-1])


def _in_shape(rows: Any, like: Any) -> tuple[Any, ...]:
    """Rows, of one array or several, each in the shape of its counterpart in `like`."""
    rows = rows if isinstance(rows, tuple) else (rows,)
    return tuple(row.reshape(one.shape) for row, one in zip(rows, like, strict=True))
