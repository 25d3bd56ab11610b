"""Layers that normalise."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from sparsenet.autograd import Parameter, Tensor
from sparsenet.nn import init
from sparsenet.nn.module import Module
from sparsenet.nn.settings import whole_channels
from sparsenet.ops.batch_norm import batch_norm, check_statistics
from sparsenet.ops.group_norm import group_norm, instance_norm
from sparsenet.ops.layer_norm import layer_norm
from sparsenet.sparse import SparseTensor


class BatchNorm(Module):
    """Batch norm of a SparseTensor, its background included, or of a Tensor (B, C); see `ops.batch_norm`.

    channels : C
    momentum : weight of the batch's statistics in the update of the running ones, 0 to 1
    eps : added to the variance
    statistics : in training, "sites": mean and variance over the active sites, as in other sparse libraries; "grid":
        over all cells, as in the dense layer.  In evaluation, with running statistics, there is no difference

    weight, bias : Parameters (C,), initially ones and zeros
    running_mean, running_var : buffers (C,), initially zeros and ones, in `state_dict` and checkpoints

    Source: Ioffe & Szegedy 2015.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5, statistics: str = "sites"):
        self.channels = whole_channels("BatchNorm", "channels", channels)
        if not (isinstance(momentum, numbers.Real) and 0 <= momentum <= 1):
            raise ValueError(f"BatchNorm: momentum is {momentum!r}, expected a number from 0 to 1")
        check_statistics("BatchNorm", statistics)
        self.momentum, self.eps, self.statistics = float(momentum), _checked_eps("BatchNorm", eps), statistics
        self.weight, self.bias = _affine(self.channels)
        self.register_buffer("running_mean", np.zeros(self.channels, np.float32))
        self.register_buffer("running_var", np.ones(self.channels, np.float32))

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.training, self.momentum,
                          self.eps, self.statistics)

    def extra_repr(self) -> str:
        return str(self.channels) + _told(self.statistics)


class InstanceNorm(Module):
    """Instance norm of a SparseTensor, its background included: each channel of each sample by its own statistics, in
    training and in evaluation; see `ops.group_norm`.

    channels : C
    eps : added to the variance
    statistics : "sites": mean and variance over the active sites of the sample; "grid": over all its cells, as in the
        dense layer

    weight, bias : Parameters (C,), initially ones and zeros (PyTorch's InstanceNorm has them with affine=True)

    The background of the output is (B, C).  Source: Ulyanov, Vedaldi & Lempitsky 2016.
    """

    def __init__(self, channels: int, eps: float = 1e-5, statistics: str = "sites"):
        self.channels = whole_channels("InstanceNorm", "channels", channels)
        self.eps, self.statistics = _checked_eps("InstanceNorm", eps), statistics
        check_statistics("InstanceNorm", statistics)
        self.weight, self.bias = _affine(self.channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return instance_norm(x, self.weight, self.bias, self.eps, self.statistics)

    def extra_repr(self) -> str:
        return str(self.channels) + _told(self.statistics)


class GroupNorm(Module):
    """Group norm of a SparseTensor, its background included, or of a Tensor (B, C): each group of neighbouring channels
    of each sample by its own statistics, in training and in evaluation; see `ops.group_norm`.

    groups : number of groups, which divides the channels
    channels, eps, statistics : as for InstanceNorm

    weight, bias : Parameters (C,), initially ones and zeros

    The background of the output is (B, C).  Source: Wu & He 2018.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, statistics: str = "sites"):
        self.groups = whole_channels("GroupNorm", "groups", groups)
        self.channels = whole_channels("GroupNorm", "channels", channels)
        if self.channels % self.groups:
            raise ValueError(f"GroupNorm: channels is {self.channels}, groups is {self.groups}: expected a number of "
                             "groups that divides the channels")
        self.eps, self.statistics = _checked_eps("GroupNorm", eps), statistics
        check_statistics("GroupNorm", statistics)
        self.weight, self.bias = _affine(self.channels)

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return group_norm(x, self.groups, self.weight, self.bias, self.eps, self.statistics)

    def extra_repr(self) -> str:
        return f"{self.groups} groups of {self.channels // self.groups}{_told(self.statistics)}"


class LayerNorm(Module):
    """Layer norm of a SparseTensor, its background included, or of a Tensor (B, C): each row by the mean and variance
    of its channels; see `ops.layer_norm`.

    channels : C;  eps : added to the variance

    weight, bias : Parameters (C,), initially ones and zeros

    Source: Ba, Kiros & Hinton 2016.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        self.channels = whole_channels("LayerNorm", "channels", channels)
        self.eps = _checked_eps("LayerNorm", eps)
        self.weight, self.bias = _affine(self.channels)

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return str(self.channels)


def _affine(channels: int) -> tuple[Parameter, Parameter]:
    """Weight and bias that change nothing."""
    return Parameter(np.ones(channels, np.float32)), init.zeros((channels,))


def _checked_eps(layer: str, eps: Any) -> float:
    if not (isinstance(eps, numbers.Real) and 0 <= eps < math.inf):
        raise ValueError(f"{layer}: eps is {eps!r}, expected a number from 0")
    return float(eps)


def _told(statistics: str) -> str:
    return "" if statistics == "sites" else f", statistics of the {statistics}"
