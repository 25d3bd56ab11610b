"""Group norm (Wu, He 2018) and instance norm (Ulyanov, Vedaldi, Lempitsky 2016), on sites and background alike.

    y = (x - mean) / sqrt(variance + eps) * weight + bias

Mean and variance are those of a group of neighbouring channels in one sample, in training and in evaluation: over its
sites ("sites"), or over all cells of its grid ("grid"), where each inactive cell holds the background; then y equals
the output of the dense layer in every cell.  Instance norm has a group for each channel.  A sample is normalised by its
own statistics, so backgrounds differ afterwards: (B, C).
"""

from __future__ import annotations

from typing import Any, overload

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_by_channel, check_tensor
from sparsenet.ops.batch_norm import check_statistics, rows_of
from sparsenet.ops.layer_norm import RowNorm
from sparsenet.sparse import SparseTensor
from sparsenet.sparse.sites import ActiveSites


class GroupNorm(Function):
    """Features (N, C), background (C,), (B, C) or None, weight and bias (C,) to features (N, C), and background (B, C)
    if there is one.

    grid : whether inactive cells are part of the statistics
    """

    def __init__(self, name: str, sites: ActiveSites, groups: int, grid: bool, eps: float):
        super().__init__()
        self.name = name
        self.sites, self.groups, self.cells, self.eps = sites, groups, sites.cells if grid else 0, float(eps)

    def forward(self, x: Any, background: Any, weight: Any, bias: Any) -> Any:
        x, weight, bias = map(array_module(x).ascontiguousarray, (x, weight, bias))
        rows = None if background is None else rows_of(background)
        y, below, moments = launch("sample_norm_forward", x, rows, self.sites.batch_splits, self.cells, weight, bias,
                                   self.groups, self.eps)
        self.save(x, background, weight, moments)
        return y if background is None else (y, below)

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, ...]:
        x, background, weight, moments = self.saved
        xp, rows = array_module(x), None
        gradient = xp.zeros_like(x) if gradient is None else gradient
        if background is not None:
            rows = rows_of(background)
            if background_gradient is None:
                background_gradient = xp.zeros((self.sites.batch_size, x.shape[1]), x.dtype)
        to_x, to_background, (to_bias, to_weight) = launch(
            "sample_norm_backward", x, rows, gradient, background_gradient, self.sites.batch_splits, self.cells,
            moments, weight, self.eps)
        if background is not None:
            to_background = to_background.reshape(background.shape)
        gradients = to_x, to_background, to_weight.astype(x.dtype), to_bias.astype(x.dtype)
        return tuple(one if need else None for one, need in zip(gradients, self.needs, strict=True))


def instance_norm(x: SparseTensor, weight: Tensor, bias: Tensor, eps: float = 1e-5, statistics: str = "sites"
                  ) -> SparseTensor:
    """x normalised channel by channel in each sample, on the same sites; see `group_norm`.

    Raises
    ------
    TypeError : x is not a SparseTensor; dtypes differ.
    ValueError : a shape does not fit; unknown statistics.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"InstanceNorm: the input is {type(x).__name__}, expected a SparseTensor: a channel of a row "
                        "has one value, which has no variance: use LayerNorm")
    return _normalised("InstanceNorm", x, x.channels, weight, bias, eps, statistics)


@overload
def group_norm(x: SparseTensor, groups: int, weight: Tensor, bias: Tensor, eps: float = ..., statistics: str = ...
               ) -> SparseTensor: ...
@overload
def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = ..., statistics: str = ...
               ) -> Tensor: ...
def group_norm(x: Any, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5, statistics: str = "sites") -> Any:
    """x normalised in groups of neighbouring channels in each sample: a SparseTensor on the same sites, with a
    background (B, C), or a Tensor (B, C), whose rows are samples of one cell.

    Differentiable in the features, the background (which is normalised like any row of its sample), weight and bias.

    groups : number of groups, which divides C
    weight, bias : Tensors (C,)
    eps : added to the variance
    statistics : over the "sites" of a sample, or over all cells of its "grid" (which are the sites if there is no
        background)

    A sample without a site is its background alone, and is normalised by the statistics of its grid.  A group with one
    value, as of one site in instance norm, has variance 0 and becomes the bias.

    Raises
    ------
    TypeError : x is neither; dtypes differ.
    ValueError : a shape does not fit; unknown statistics.
    """
    if isinstance(x, SparseTensor):
        return _normalised("GroupNorm", x, groups, weight, bias, eps, statistics)
    check_tensor("GroupNorm", "the input", x, "a Tensor (B, C) or SparseTensor")
    _check("GroupNorm", x, groups, weight, bias, statistics)
    return RowNorm("GroupNorm", groups, eps).apply(x, weight, bias)


def _normalised(name: str, x: SparseTensor, groups: int, weight: Tensor, bias: Tensor, eps: float, statistics: str
                ) -> SparseTensor:
    _check(name, x.features, groups, weight, bias, statistics)
    function = GroupNorm(name, x.sites, groups, statistics == "grid", eps)
    if x.background is None:
        return x.with_features(function.apply(x.features, None, weight, bias), None)
    return x.with_features(*function.apply(x.features, x.background, weight, bias))


def _check(name: str, features: Tensor, groups: int, weight: Tensor, bias: Tensor, statistics: str) -> None:
    check_statistics(name, statistics)
    check_by_channel(name, features, {"weight": weight, "bias": bias})
    if groups < 1 or features.shape[1] % groups:
        raise ValueError(f"{name}: x has {features.shape[1]} channels, groups is {groups}: expected a number that "
                         "divides the channels")
