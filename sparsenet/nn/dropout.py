"""Dropout of channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.nn.module import Module
from sparsenet.nn.settings import finite_number
from sparsenet.ops.dropout import dropout
from sparsenet.sparse import SparseTensor


class Dropout(Module):
    """In training, sets each channel to 0 with probability p and scales the others by 1 / (1 - p).

    One draw for each sample and channel, for its sites and background alike; see `ops.dropout`.

    p : at least 0 and below 1
    rng : Generator or seed from which the masks are drawn, call after call; the network's `reseed` replaces it, so that
        the masks of a step depend only on (seed, epoch, step)
    """

    def __init__(self, p: float = 0.5, rng: Any = None):
        self.p = finite_number("Dropout", "p", p)
        if not 0 <= self.p < 1:
            raise ValueError(f"Dropout: p is {p}, expected at least 0 and below 1")
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return dropout(x, self.p, self.rng) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"{self.p:g}"
