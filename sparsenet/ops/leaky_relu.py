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
    """x where x > 0, slope * x elsewhere; the gradient at 0 is slope, as in PyTorch.

    x : Tensor of any shape, or SparseTensor (the background is treated as any row)

    Raises
    ------
    TypeError : x is neither.
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
        given = (x,) if background is None else (x, background)
        found = launch("leaky_relu_forward", _row(x), self.slope, *map(_row, given[1:]))
        found = _in_shape(found, given)
        self.save(*(found if self.slope >= 0 else given))  # the next layer reads `found` too: nothing more is kept
        return found if len(found) > 1 else found[0]

    def backward(self, *gradients: Any) -> tuple[Any, ...]:
        """Where both have a gradient both are made in one launch."""
        pairs = [pair for pair in zip(self.saved, gradients, strict=True) if pair[1] is not None]
        (reference, gradient), *more = [tuple(map(_row, pair)) for pair in pairs]
        found = launch("leaky_relu_backward", reference, gradient, self.slope, *(row for pair in more for row in pair))
        found = iter(_in_shape(found, [gradient for _, gradient in pairs]))
        results = [None if gradient is None else next(found) for gradient in gradients]
        return (*results, None)[:2]  # no background: no gradient


def _row(array: Any) -> Any:
    return array.reshape(1, -1)


def _in_shape(rows: Any, like: Sequence[Any]) -> tuple[Any, ...]:
    """One row or several, in the shapes of `like`."""
    rows = rows if isinstance(rows, tuple) else (rows,)
    return tuple(row.reshape(one.shape) for row, one in zip(rows, like, strict=True))
