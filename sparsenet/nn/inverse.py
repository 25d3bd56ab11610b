"""Convolution back to the input sites of an earlier strided layer."""

from __future__ import annotations

from typing import Any

from sparsenet.nn import init
from sparsenet.nn.module import Module
from sparsenet.nn.settings import whole_channels
from sparsenet.ops.inverse_convolution import inverse_convolution
from sparsenet.sparse import ConvolutionStep, Geometry, SparseTensor
from sparsenet.sparse.plan import Step


class InverseConv(Module):
    """Convolution back over the rulebook of an earlier convolution or pooling, to that layer's input sites.

    in_channels, out_channels : C_in, C_out
    layer : the Module that it goes back over, which has a `geometry`; not kept
    bias : add a vector (C_out,)
    rng : see `nn.layers`

    weight : Parameter (K, C_in, C_out), offsets as in that layer;  bias : Parameter (C_out,) or None

    The input must stand on the output sites of that layer: layers between the two keep the sites, or go back to them
    first, as in a U-Net.  See `ops.inverse_convolution` for what it computes.

    Raises TypeError if `layer` has no filter or a number of channels is not a whole number, ValueError if it is
    submanifold, which keeps its sites, or a number of channels is below 1.
    """

    kind = "inverse_convolution"

    def __init__(self, in_channels: int, out_channels: int, layer: Module, bias: bool = True, rng: Any = None):
        geometry = getattr(layer, "geometry", None)
        if not isinstance(geometry, Geometry) or isinstance(layer, InverseConv):
            raise TypeError(f"InverseConv: layer is {type(layer).__name__}, expected a convolution or pooling to go "
                            "back over")
        if geometry.submanifold:
            raise ValueError("InverseConv: layer is submanifold and keeps its sites, expected a strided convolution or "
                             "pooling: use a SubmanifoldConv here")
        self.geometry = geometry
        self.in_channels = whole_channels("InverseConv", "in_channels", in_channels)
        self.out_channels = whole_channels("InverseConv", "out_channels", out_channels)
        shape = (geometry.volume, self.in_channels, self.out_channels)
        bound = init.weight_bound(self.in_channels * geometry.max_pairs_per_input, self.out_channels, 1.0)
        self.weight = init.uniform(shape, bound, rng)
        self.bias = init.zeros((self.out_channels,)) if bias else None

    def geometries(self) -> list[Step]:
        return [ConvolutionStep(self.geometry, (self.in_channels, self.out_channels), inverse=True)]

    def forward(self, x: SparseTensor) -> SparseTensor:
        return inverse_convolution(x, self.weight, self.bias, self.geometry, batch_invariant=not self.training)

    def extra_repr(self) -> str:
        return (f"{self.in_channels} -> {self.out_channels}, back over {self.geometry}"
                f"{', no bias' if self.bias is None else ''}")
