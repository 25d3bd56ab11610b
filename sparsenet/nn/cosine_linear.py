"""The classifier of a cosine loss."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Tensor
from sparsenet.nn import init
from sparsenet.nn.module import Module
from sparsenet.nn.settings import whole_channels
from sparsenet.ops.cosine_linear import cosine_linear
from sparsenet.ops.unit_vectors import checked_number
from sparsenet.sparse import SparseTensor


class CosineLinear(Module):
    """scale * cos(x, w) for rows x (B, C_in) and each column w of the weight: the logits of a cosine classifier.

    scale : above 0; see `ops.cosine_softmax`, the loss that trains it

    weight : Parameter (C_in, C_out), laid out as that of Linear; there is no bias
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 14.0, rng: Any = None):
        self.in_features = whole_channels("CosineLinear", "in_features", in_features)
        self.out_features = whole_channels("CosineLinear", "out_features", out_features)
        self.scale = checked_number("CosineLinear", "scale", scale, above=True)
        shape = (self.in_features, self.out_features)
        self.weight = init.uniform(shape, init.weight_bound(*shape), rng)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, SparseTensor):
            raise TypeError("CosineLinear: the input is a SparseTensor, expected a Tensor (B, C): put a GlobalPool "
                            "before it")
        return cosine_linear(x, self.weight, self.scale, batch_invariant=not self.training)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, scale {self.scale:g}"
