"""Batch norm (Ioffe, Szegedy 2015), on sites and background alike.

    y = (x - mean) / sqrt(variance + eps) * weight + bias           channel by channel

In training, mean and variance are those of the batch: over its sites ("sites"), or over all cells of its grids
("grid"), where each inactive cell holds the background; then y equals the output of the dense layer in every cell.  In
evaluation they are the running statistics, which are constants, and both settings equal the dense layer.
"""

from __future__ import annotations

from typing import Any, overload

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_by_channel, check_tensor
from sparsenet.sparse import SparseTensor

STATISTICS = ("sites", "grid")


class BatchNorm(Function):
    """moments : (2, C) float64, mean and variance
    splits, cells : the sites' batch_splits (B+1,) and the cells of a grid, if the inactive cells are part of the
        statistics; else None and 0
    of_batch : whether the moments are those of the batch, so that gradients flow through them
    """

    def __init__(self, moments: Any, splits: Any, cells: int, of_batch: bool, eps: float):
        super().__init__()
        self.moments, self.splits, self.cells, self.of_batch, self.eps = moments, splits, cells, of_batch, eps

    def forward(self, x: Any, background: Any, weight: Any, bias: Any) -> Any:
        x, weight, bias = map(array_module(x).ascontiguousarray, (x, weight, bias))
        rows = None if background is None else rows_of(background)
        self.save(x, background, weight)
        result = launch("batch_norm_forward", x, rows, self.moments, weight, bias, self.eps)
        return result if background is None else (result[0], result[1].reshape(background.shape))

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, Any, Any, Any]:
        x, background, weight = self.saved
        xp = array_module(x)
        gradient = xp.zeros_like(x) if gradient is None else gradient
        rows = None
        if background is not None:
            rows = rows_of(background)
            background_gradient = xp.zeros_like(rows) if background_gradient is None else rows_of(background_gradient)
        to_x, to_background, sums = launch("batch_norm_backward", x, rows, gradient, background_gradient, self.splits,
                                           self.cells, self.moments, weight, self.eps, self.of_batch)
        to_bias, to_weight = sums.astype(x.dtype)
        to_background = None if background is None else to_background.reshape(background.shape)
        return tuple(one if need else None for one, need in
                     zip((to_x, to_background, to_weight, to_bias), self.needs, strict=True))


def rows_of(background: Any) -> Any:
    """A background (C,) as (1, C); one that differs by sample is (B, C) already."""
    return array_module(background).ascontiguousarray(background.reshape(-1, background.shape[-1]))


def check_statistics(operation: str, statistics: Any) -> None:
    """Raise ValueError unless it is one of STATISTICS."""
    if statistics not in STATISTICS:
        raise ValueError(f"{operation}: statistics is {statistics!r}, expected one of {', '.join(STATISTICS)}")


@overload
def batch_norm(x: SparseTensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor,
               training: bool = ..., momentum: float = ..., eps: float = ..., statistics: str = ...
               ) -> SparseTensor: ...
@overload
def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor,
               training: bool = ..., momentum: float = ..., eps: float = ..., statistics: str = ...) -> Tensor: ...
def batch_norm(x: Any, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-5, statistics: str = "sites") -> Any:
    """x normalised channel by channel: a SparseTensor on the same sites, or a Tensor (B, C).

    Differentiable in the features, the background (which is normalised like any row), weight and bias.

    weight, bias : Tensors (C,)
    running_mean, running_var : Tensors (C,), outside the graph.  They normalise x in evaluation; in training they are
        moved in place by momentum * (statistic of the batch - running one), with the variance divided by count - 1,
        as in PyTorch
    statistics : over the "sites", or over all cells of the "grid" (which are the sites if there is no background); over
        the rows of a Tensor

    A batch without a site is normalised by the running statistics, which stay as they are.

    Raises
    ------
    TypeError : x is neither; dtypes differ.
    ValueError : a shape does not fit; unknown statistics; in training, a single value per channel, which has no
        variance.
    """
    sparse = isinstance(x, SparseTensor)
    features = x.features if sparse else x
    if not sparse:
        check_tensor("BatchNorm", "the input", x, "a Tensor (B, C) or SparseTensor")
    check_statistics("BatchNorm", statistics)
    check_by_channel("BatchNorm", features, {"weight": weight, "bias": bias, "running_mean": running_mean,
                                             "running_var": running_var})
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
    """(2, C) float64: mean and variance of the batch; moves the running ones."""
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
