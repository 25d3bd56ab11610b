"""Soft shrinkage as a layer."""

from __future__ import annotations

from sparsenet.autograd import Tensor
from sparsenet.nn.module import Module
from sparsenet.ops.soft_shrink import checked_limit, soft_shrink
from sparsenet.sparse import SparseTensor


class SoftShrink(Module):
    """x - limit if x > limit, x + limit if x < -limit, else 0; elementwise on a Tensor, or on sites and background.

    limit : at least 0

    Raises ValueError if the limit is negative or not finite.
    """

    kind = "soft_shrink"  # its name in a network, numbered

    def __init__(self, limit: float = 0.5):
        self.limit = checked_limit(limit)

    def forward(self, x: Tensor | SparseTensor) -> Tensor | SparseTensor:
        return soft_shrink(x, self.limit)

    def extra_repr(self) -> str:
        return f"{self.limit:g}"
