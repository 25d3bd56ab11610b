"""Layers that normalise."""

from __future__ import annotations

import math
import numbers

import numpy as np

from sparsenet.autograd import Parameter, Tensor
from sparsenet.nn import init
from sparsenet.nn.layers import whole_channels
from sparsenet.nn.module import Module
from sparsenet.ops.batch_norm import STATISTICS, batch_norm
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
        for name, value, below in (("momentum", momentum, 1), ("eps", eps, math.inf)):
            if not (isinstance(value, numbers.Real) and 0 <= value <= below and math.isfinite(value)):
                raise ValueError(f"BatchNorm: {name} is {value!r}, expected a number from 0"
                                 f"{' to 1' if below == 1 else ''}")
        if statistics not in STATISTICS:
            raise ValueError(f"BatchNorm: statistics is {statistics!r}, expected one of {', '.join(STATISTICS)}")
        self.momentum, self.eps, self.statistics = float(momentum), float(eps), statistics
        self.weight = Parameter(np.ones(self.channels, np.float32))
        self.bias = init.zeros((self.channels,))
        self.register_buffer("running_mean", np.zeros(self.channels, np.float32))
        self.register_buffer("running_var", np.ones(self.channels, np.float32))

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.training, self.momentum,
                          self.eps, self.statistics)

    def extra_repr(self) -> str:
        words = [str(self.channels)]
        if self.statistics != "sites":
            words.append(f"statistics of the {self.statistics}")
        return ", ".join(words)
