"""Transposed convolution on a zero background."""

from __future__ import annotations

from typing import Any

from sparsenet.nn import init
from sparsenet.nn.module import Module
from sparsenet.nn.settings import Size, checked_groups, dimension_of
from sparsenet.ops.transposed_convolution import transposed_convolution
from sparsenet.sparse import ActiveSites, ConvolutionStep, Geometry, Rulebook, Spacing, SparseTensor
from sparsenet.sparse.plan import Step
from sparsenet.sparse.spacing import spaced


class TransposedConv(Module):
    """Transposed convolution of a SparseTensor whose background is zero or None, as `torch.nn.ConvTransposeNd` on the
    dense grid: each site fills the cells under its window, (size - 1) * stride - 2 * padding + dilation *
    (kernel_size - 1) + output_padding + 1 along an axis.

    in_channels, out_channels, groups, bias, dimension, rng : as of SparseConv
    kernel_size, stride, padding, output_padding, dilation : one number, or one per dimension
    padding : cells that are cut off at each side, at most dilation * (kernel_size - 1)
    output_padding : cells added at the end of each axis, less than the stride or the dilation

    weight : Parameter (K, C_in / groups, C_out), offsets row-major, last axis fastest, output channels group by group;
    bias : Parameter (C_out,) or None

    On another background it raises, since its result would have no single one: Upsample and a SparseConv are exact on
    any.  The sites are new ones; an InverseConv goes back to the very sites of an earlier layer.

    Raises ValueError or TypeError as SparseConv does, and if a padding is out of range.
    """

    kind = "transposed_convolution"

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1, dimension: int = 3,
                 rng: Any = None):
        dimension = dimension_of(kernel_size, dimension)
        self.settings = filter_ = Geometry.make(dimension, kernel_size, stride, padding, dilation)
        more = Geometry.make(dimension, 1, padding=output_padding).padding
        reach = tuple(d * (k - 1) for k, d in zip(filter_.size, filter_.dilation, strict=True))
        if any(cut > cells for cut, cells in zip(filter_.padding, reach, strict=True)):
            raise ValueError(f"TransposedConv: padding is {filter_.padding}, expected at most {reach}, what the filter "
                             "reaches")
        if any(one >= max(s, d) for one, s, d in zip(more, filter_.stride, filter_.dilation, strict=True)):
            raise ValueError(f"TransposedConv: output_padding is {more}, expected less than the stride "
                             f"{filter_.stride} or the dilation {filter_.dilation}")
        self.spacing = Spacing(filter_.stride, more)
        cut = tuple(cells - p for cells, p in zip(reach, filter_.padding, strict=True))
        self.filter = Geometry.make(dimension, filter_.size, 1, cut, filter_.dilation)
        self.in_channels, self.out_channels, self.groups = checked_groups(self, in_channels, out_channels, groups)
        shape = (filter_.volume, self.in_channels // self.groups, self.out_channels)
        bound = init.weight_bound(shape[1] * filter_.max_pairs_per_input, self.out_channels // self.groups, 1.0)
        self.weight = init.uniform(shape, bound, rng)
        self.bias = init.zeros((self.out_channels,)) if bias else None

    def geometries(self) -> list[Step]:
        return [self.spacing, ConvolutionStep(self.filter, (self.in_channels, self.out_channels), groups=self.groups)]

    def rulebook(self, sites: ActiveSites) -> Rulebook:
        """From these sites, spaced apart, to those of the output; offset k of it is offset K - 1 - k of the weight."""
        return spaced(sites, self.spacing).rulebook(self.filter)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return transposed_convolution(x, self.weight, self.bias, self.filter, self.spacing,
                                      batch_invariant=not self.training, groups=self.groups)

    def extra_repr(self) -> str:
        more = f", output padding {self.spacing.more}" if any(self.spacing.more) else ""
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return (f"{self.in_channels} -> {self.out_channels}, {self.settings}{more}{groups}"
                f"{', no bias' if self.bias is None else ''}")
