"""Convolution back over the rulebook of an earlier strided layer (SparseInverseConv in spconv).

That layer, a convolution or a pooling, joined input sites n to output sites m under offsets k.  The inverse
convolution goes from the m to the n, over the same pairs:

    out[n] = sum over the pairs (n, m, k) of W[k]^T x[m]  +  b

At the input sites it equals PyTorch's ConvTransposeNd with weights of the same filter on a grid of the input's size,
because all output cells over an input site are active; at other cells it does not.  Nothing is subtracted: the
background of the output is b, or zero.  A site under no window gets b.
"""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse import Geometry, ReversedRulebook, SparseTensor
from sparsenet.sparse.reversed_rulebook import way_back


def inverse_convolution(x: SparseTensor, weight: Tensor, bias: Tensor | None, geometry: Geometry,
                        batch_invariant: bool = False) -> SparseTensor:
    """From the output sites of a strided layer back to its input sites.

    x : SparseTensor with C_in channels, on sites that a convolution or pooling of this geometry made
    weight : Tensor (K, C_in, C_out), offsets row-major, last axis fastest
    bias : Tensor (C_out,) or None
    batch_invariant : as in `convolution`

    Returns a SparseTensor with C_out channels on that layer's input sites; its background is the bias, or zero, and
    None if x has none.

    Raises
    ------
    TypeError : x is not a SparseTensor; dtypes differ.
    ValueError : x does not stand on such sites; channels or offsets do not fit.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"InverseConv: the input is {type(x).__name__}, expected a SparseTensor")
    if weight.ndim != 3 or weight.shape[:2] != (geometry.volume, x.channels):
        raise ValueError(f"InverseConv: the weights have shape {weight.shape}, expected ({geometry.volume}, "
                         f"{x.channels}, C_out) for features of {x.channels} channels and a filter of size "
                         f"{geometry.size}")
    if x.dtype != weight.dtype:
        raise TypeError(f"InverseConv: features are {x.dtype}, the weights {weight.dtype}: convert one of them")
    rulebook = way_back(x.sites, geometry)
    features = _InverseConvolution(rulebook, batch_invariant).apply(x.features, weight, bias)
    background = None
    if x.background is not None:
        xp = array_module(weight.array)
        background = Tensor(xp.zeros(weight.shape[2], weight.dtype)) if bias is None else bias
    return SparseTensor.from_sites(features, rulebook.output_sites, background)


class _InverseConvolution(Function):
    """Features (M, C_in), weight (K, C_in, C_out) and bias (C_out,) or None to features (N, C_out)."""

    name = "InverseConv"

    def __init__(self, rulebook: ReversedRulebook, batch_invariant: bool):
        super().__init__()
        self.rulebook = rulebook
        self.kernel = "convolution_forward_by_row" if batch_invariant else "convolution_forward"

    def forward(self, features: Any, weight: Any, bias: Any) -> Any:
        self.save(features, weight)
        return launch(self.kernel, features, weight, self.rulebook, bias)

    def backward(self, gradient: Any) -> tuple[Any, ...]:
        features, weight = self.saved
        needs_features, needs_weight, needs_bias = self.needs
        return (launch("convolution_input_gradient", gradient, weight, self.rulebook) if needs_features else None,
                launch("convolution_weight_gradient", features, gradient, self.rulebook) if needs_weight else None,
                launch("segment_sum", gradient)[0] if needs_bias else None)
