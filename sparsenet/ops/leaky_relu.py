"""Leaky ReLU (Maas et al. 2013), on sites and background alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from sparsenet.autograd import Function, Tensor
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import SparseTensor


@overload
def leaky_relu(x: SparseTensor, slope: float = 0.01) -> SparseTensor: ...
@overload
def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor: ...
def leaky_relu(x: Tensor | SparseTensor, slope: float = 0.01) -> Tensor | SparseTensor:
    """x if x > 0, else slope * x; the gradient at 0 is slope, as in PyTorch.

    x : Tensor of any shape, or SparseTensor, whose background is mapped like any row

    Raises
    ------
    TypeError : x is neither, or its elements are not floats.
    """
    if not isinstance(x, SparseTensor):
        check_tensor("LeakyReLU", "the input", x, "a Tensor or SparseTensor")
        return _LeakyReLU(slope).apply(x, None)
    if x.background is None:
        return x.with_features(_LeakyReLU(slope).apply(x.features, None), None)
    return x.with_features(*_LeakyReLU(slope).apply(x.features, x.background))


class _LeakyReLU(Function):
    def __init__(self, slope: float):
        super().__init__()
        self.name = "LeakyReLU"
        self.slope = float(slope)

    def forward(self, x: Any, background: Any) -> Any:
        inputs = (x,) if background is None else (x, background)
        results = _in_shape(launch("leaky_relu_forward", _row(x), self.slope, *map(_row, inputs[1:])), inputs)
        # With slope >= 0 the output has the sign of the input; the next layer saves it too, so it costs no memory.
        self.save(*(results if self.slope >= 0 else inputs))
        return results if len(results) > 1 else results[0]

    def backward(self, *gradients: Any) -> tuple[Any, ...]:
        """One launch computes both gradients."""
        pairs = [pair for pair in zip(self.saved, gradients, strict=True) if pair[1] is not None]
        (reference, gradient), *more = [tuple(map(_row, pair)) for pair in pairs]
        rows = launch("leaky_relu_backward", reference, gradient, self.slope, *(row for pair in more for row in pair))
        present = iter(_in_shape(rows, [gradient for _, gradient in pairs]))
        results = [None if gradient is None else next(present) for gradient in gradients]
        return (*results, None)[:2]  # without a background it has no gradient


def _row(array: Any) -> Any:
    return array.reshape(1, -1)


def _in_shape(rows: Any, like: Sequence[Any]) -> tuple[Any, ...]:
    """One row (1, size) or several, each in the shape of its counterpart in `like`."""
    rows = rows if isinstance(rows, tuple) else (rows,)
    return tuple(row.reshape(one.shape) for row, one in zip(rows, like, strict=True))
