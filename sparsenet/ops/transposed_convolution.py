"""Transposed convolution, as `torch.nn.ConvTransposeNd`, on a zero background.

Each input site m adds to the output cells n under its window:

    out[n] = sum over the m and k with n = m * stride - padding + k * dilation  of  W[k]^T x[m]      + b

On a grid where the sites lie `stride` cells apart, with zeros between them, this is a convolution of stride 1 with the
offsets reversed, and so it is computed: the output is active where a window reaches, and its background is b, or zero.

A background that is not zero would fill the cells between the sites, some of them under more windows than others: the
output would not have one background.  `upsample` and a convolution are exact on any.
"""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.ops.convolution import check_convolution, convolution
from sparsenet.sparse import Geometry, Spacing, SparseTensor
from sparsenet.sparse.spacing import spaced


class _Reverse(Function):
    """A weight (K, C_in, C_out) with the offsets in the opposite order."""

    def forward(self, weight: Any) -> Any:
        return array_module(weight).ascontiguousarray(weight[::-1])

    backward = forward


def transposed_convolution(x: SparseTensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, spacing: Spacing,
                           batch_invariant: bool = False, groups: int = 1) -> SparseTensor:
    """Transposed convolution of a SparseTensor whose background is zero or None.

    x : SparseTensor with C_in channels
    weight : Tensor (K, C_in / groups, C_out), offsets row-major, last axis fastest, output channels group by group
    bias : Tensor (C_out,) or None
    geometry : the filter with stride 1 and a padding of dilation * (size - 1) - padding, over the spaced grid
    spacing : the stride, and the output padding
    batch_invariant : as in `convolution`

    Returns a SparseTensor with C_out channels; its background is the bias, or zero, and None if x has none.
    Differentiable in the features, the weight and the bias.

    Raises
    ------
    TypeError : x is not a SparseTensor; dtypes differ.
    ValueError : the background is not zero; channels, offsets or dimensions do not fit.
    """
    check_convolution(x, weight, geometry, groups, "TransposedConv")
    background = None
    if x.background is not None:
        if bool(x.background.array.any()):
            raise ValueError("TransposedConv: the input's background is not zero, so that its result has no single "
                             "background: use Upsample and a SparseConv, which are exact on any background, or an "
                             "InverseConv back to earlier sites, or build the input with background=None")
        background = Tensor(array_module(weight.array).zeros(x.channels, x.dtype))
    apart = SparseTensor.from_sites(x.features, spaced(x.sites, spacing), background)
    return convolution(apart, _Reverse().apply(weight), bias, geometry, batch_invariant, groups)
