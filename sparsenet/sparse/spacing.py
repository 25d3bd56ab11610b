"""Sites spaced apart, as a transposed convolution sees its input."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites

_MAX_SIDE = 2**31 - 1


@dataclass(frozen=True)
class Spacing:
    """How cell i of a grid comes to lie at cell i * stride of a larger one, with inactive cells between.

    stride : (D,)
    more : (D,), cells behind the last one along each axis
    """

    stride: tuple[int, ...]
    more: tuple[int, ...]

    def output_size(self, spatial_size: tuple[int, ...]) -> tuple[int, ...]:
        """The larger grid's spatial size (D,): (size - 1) * stride + 1 + more.

        Raises ValueError if there are not as many numbers as dimensions, OverflowError if a side exceeds the range of
        int32.
        """
        if len(spatial_size) != len(self.stride):
            raise ValueError(f"TransposedConv: the layer has {len(self.stride)} dimensions, the input's spatial size "
                             f"{tuple(spatial_size)} has {len(spatial_size)}")
        sides = tuple((side - 1) * stride + 1 + more
                      for side, stride, more in zip(spatial_size, self.stride, self.more, strict=True))
        if max(sides) > _MAX_SIDE:
            raise OverflowError(f"TransposedConv: sides are {sides}, expected at most {_MAX_SIDE}, as coordinates are "
                                "int32")
        return sides

    def __str__(self) -> str:
        return f"spaced by {'x'.join(map(str, self.stride))}"


def spaced(sites: ActiveSites, spacing: Spacing) -> ActiveSites:
    """The sites on the larger grid, in the same order; `sites` keep them, as they keep rulebooks.

    Raises ValueError if the numbers are not as many as dimensions, OverflowError if there are more cells than int64
    keys can name.
    """
    size = spacing.output_size(sites.spatial_size)
    if set(spacing.stride) == {1} and not any(spacing.more):
        return sites
    if sites.batch_size * prod(size) >= 2**63:
        raise OverflowError(f"TransposedConv: {sites.batch_size} grids of {size} have more cells than int64 keys can "
                            "name (2^63): use a smaller stride or batch")
    if sites._copies is None:
        sites._copies = {}
    known = sites._copies.get(spacing)
    return sites._copies.setdefault(spacing, _spaced(sites, spacing, size)) if known is None else known


def _spaced(sites: ActiveSites, spacing: Spacing, size: tuple[int, ...]) -> ActiveSites:
    keys = sites.coordinates[:, 0].astype(np.int64)
    for axis, (side, stride) in enumerate(zip(size, spacing.stride, strict=True)):
        keys = keys * side + sites.coordinates[:, 1 + axis].astype(np.int64) * stride
    return type(sites).from_keys(keys, size, sites.batch_size)
