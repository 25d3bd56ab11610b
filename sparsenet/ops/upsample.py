"""Nearest upsampling: each cell becomes a box of equal cells on a finer grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsenet.autograd import Function
from sparsenet.kernels import launch
from sparsenet.sparse import ActiveSites, SparseTensor, Upsampling
from sparsenet.sparse.upsampling import Copies, copies_of


class Upsample(Function):
    """Features (N, C) to those of the copies (M, C); backward sums over the copies of each site."""

    def __init__(self, sites: ActiveSites, copies: Copies):
        super().__init__()
        self.sites, self.copies = sites, copies

    def forward(self, features: Any) -> Any:
        return launch("sum_pool_forward", features, None, self.copies.parents, self.copies.sites.coordinates, False)

    def backward(self, gradient: Any) -> Any:
        return launch("sum_pool_forward", gradient, None, self.copies.children, self.sites.coordinates, False)


def upsample(x: SparseTensor, scale_factor: int | Sequence[int], spatial_size: int | Sequence[int] | None = None
             ) -> SparseTensor:
    """x on a finer grid, whose cell i holds what cell i // scale_factor held: `torch.nn.Upsample` of mode "nearest".

    Each site becomes a box of scale_factor^D sites; the background stays as it is.  The sites are new ones, from which
    an InverseConv finds no way back.

    scale_factor : one number, or one per dimension
    spatial_size : of the finer grid, such as that of an encoder whose stride did not divide it: what lies beyond is
        cut off, and cells that no copy reaches stay at the background; None: the sides of x times scale_factor

    Differentiable in the features and the background.

    Raises
    ------
    TypeError : x is not a SparseTensor.
    ValueError : a number is not whole or below 1, or there are not as many as dimensions.
    OverflowError : there are more than 2^31 - 1 sites, or too many cells.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"Upsample: the input is {type(x).__name__}, expected a SparseTensor")
    copies = copies_of(x.sites, Upsampling.make(scale_factor, spatial_size))
    return SparseTensor.from_sites(Upsample(x.sites, copies).apply(x.features), copies.sites, x.background)
