"""Batch norm (Ioffe, Szegedy 2015), on sites and background alike.

    y = (x - mean) / sqrt(variance + eps) * weight + bias           channel by channel

In training mean and variance are the batch's: over its sites ("sites"), or over all cells of its grids ("grid"), where
each inactive cell has the background: then y equals the dense layer's at every cell.  In evaluation they are the
running ones, constants, and the two are the same.
"""

from __future__ import annotations

from typing import Any, overload

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import SparseTensor

STATISTICS = ("sites", "grid")


class BatchNorm(Function):
    """moments : mean and variance (2, C) float64
    splits, cells : where samples begin, and cells of a grid: the background counts with the inactive ones; None and 0:
        it does not
    of_batch : whether the moments are the batch's own, so that gradients pass through them
    """

    def __init__(self, moments: Any, splits: Any, cells: int, of_batch: bool, eps: float):
        super().__init__()
        self.moments, self.splits, self.cells, self.of_batch, self.eps = moments, splits, cells, of_batch, eps

    def forward(self, x: Any, background: Any, weight: Any, bias: Any) -> Any:
        x, weight, bias = map(array_module(x).ascontiguousarray, (x, weight, bias))
        below = None if background is None else rows_of(background)
        self.save(x, background, weight)
        found = launch("batch_norm_forward", x, below, self.moments, weight, bias, self.eps)
        return found if background is None else (found[0], found[1].reshape(background.shape))

    def backward(self, gradient: Any, ground: Any = None) -> tuple[Any, Any, Any, Any]:
        x, background, weight = self.saved
        xp = array_module(x)
        gradient = xp.zeros_like(x) if gradient is None else gradient
        below = None
        if background is not None:
            below = rows_of(background)
            ground = xp.zeros_like(below) if ground is None else rows_of(ground)
        of_x, of_background, sums = launch("batch_norm_backward", x, below, gradient, ground, self.splits, self.cells,
                                           self.moments, weight, self.eps, self.of_batch)
        sums = sums.astype(x.dtype)
        found = of_x, None if background is None else of_background.reshape(background.shape), sums[1], sums[0]
        return tuple(one if need else None for one, need in zip(found, self.needs, strict=True))


def rows_of(background: Any) -> Any:
    """(G, C): a background (C,) is one row, one that differs from sample to sample has as many as there are samples."""
    return array_module(background).ascontiguousarray(background.reshape(-1, background.shape[-1]))


@overload
def batch_norm(x: SparseTensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor,
               training: bool = ..., momentum: float = ..., eps: float = ..., statistics: str = ...
               ) -> SparseTensor: ...
@overload
def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor,
               training: bool = ..., momentum: float = ..., eps: float = ..., statistics: str = ...) -> Tensor: ...
def batch_norm(x: Any, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-5, statistics: str = "sites") -> Any:
    """x normalised in each channel: a SparseTensor on the same sites, or a Tensor (B, C).

    weight, bias : (C,).  Differentiable in them, the features and the background, which is normalised as any row
    running_mean, running_var : (C,), no part of the graph: what x is normalised by in evaluation; in training they are
        moved in place by momentum * (the batch's - their own), the variance divided by count - 1, as in PyTorch
    statistics : of "sites", or of the whole "grid", inactive cells included (without a background there is nothing in
        them: then of the sites, too).  Of a Tensor: its rows

    A batch with nothing to take statistics of is normalised by the running ones, and leaves them alone.

    Raises
    ------
    TypeError : x is neither; dtypes differ.
    ValueError : a shape does not fit, other statistics, or in training a single value per channel, which has no
        variance.
    """
    sparse = isinstance(x, SparseTensor)
    features = x.features if sparse else x
    if not sparse:
        check_tensor("BatchNorm", "the input", x, "a Tensor (B, C) or SparseTensor")
    if statistics not in STATISTICS:
        raise ValueError(f"BatchNorm: statistics is {statistics!r}, expected one of {', '.join(STATISTICS)}")
    if features.ndim != 2:
        raise ValueError(f"BatchNorm: x has shape {features.shape}, expected (B, C)")
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, tensor in given.items():
        if tensor.shape != features.shape[1:]:
            raise ValueError(f"BatchNorm: x has {features.shape[1]} channels, {name} has shape {tensor.shape}: build "
                             f"the layer with channels={features.shape[1]}")
        if tensor.dtype != features.dtype:
            raise TypeError(f"BatchNorm: {name} is {tensor.dtype}, x is {features.dtype}: convert one of them")
    background = x.background if sparse else None
    counts = background is not None and statistics == "grid"
    splits, cells = (x.sites.batch_splits, x.sites.cells) if counts else (None, 0)
    count = x.batch_size * cells if counts else len(features)
    of_batch = training and count > 0
    if of_batch:
        moments = _moments(features, background if counts else None, splits, cells, running_mean, running_var, momentum,
                           count)
    else:
        xp = array_module(features.array)
        moments = xp.stack([running_mean.array, running_var.array]).astype("float64")
    function = BatchNorm(moments, splits, cells, of_batch, float(eps))
    if not sparse or background is None:
        result = function.apply(features, None, weight, bias)
        return x.with_features(result, None) if sparse else result
    return x.with_features(*function.apply(features, background, weight, bias))


def _moments(features: Tensor, background: Tensor | None, splits: Any, cells: int, running_mean: Tensor,
             running_var: Tensor, momentum: float, count: int) -> Any:
    """Mean and variance (2, C) of the batch; the running ones are moved."""
    if count == 1:
        raise ValueError("BatchNorm: there is one value per channel, which has no variance, expected more in training: "
                         "use a larger batch, or put the layer into evaluation mode")
    rows = None if background is None else rows_of(background.array)
    values = array_module(features.array).ascontiguousarray(features.array)
    moments = launch("batch_norm_statistics", values, rows, splits, cells, running_mean.array, running_var.array,
                     float(momentum))
    running_mean.mark_modified()
    running_var.mark_modified()
    return moments
