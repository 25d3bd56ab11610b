"""Nearest upsampling: the cells of a finer grid to which sites are copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sparsenet.backend import array_module
from sparsenet.sparse.geometry import several

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites

Numbers = int | tuple[int, ...]  # one, or one per dimension
_MAX_SIDE = 2**31 - 1


@dataclass(frozen=True)
class Upsampling:
    """How each cell of a grid becomes a box of cells of a finer one, such as 2 x 2 x 2.

    scale : cells along each axis of the box, one number or (D,)
    spatial_size : of the finer grid, one number or (D,): what lies beyond is cut off, and cells that no copy reaches
        stay inactive; None: the coarse sides times the scale

    Equal ones share the sites that they lead to.
    """

    scale: Numbers
    spatial_size: Numbers | None = None

    @classmethod
    def make(cls, scale: int | Sequence[int], spatial_size: int | Sequence[int] | None = None) -> Upsampling:
        """Raises ValueError unless all are whole numbers of at least 1."""
        return cls(_checked("scale_factor", scale),
                   None if spatial_size is None else _checked("spatial_size", spatial_size))

    def scales(self, dimension: int) -> tuple[int, ...]:
        """(D,)"""
        return _per_axis("scale_factor", self.scale, dimension)

    def output_size(self, spatial_size: tuple[int, ...]) -> tuple[int, ...]:
        """The finer grid's spatial size (D,).

        Raises ValueError if there are not as many numbers as dimensions, OverflowError if a side exceeds the range of
        int32.
        """
        scales = self.scales(len(spatial_size))
        if self.spatial_size is not None:
            return _per_axis("spatial_size", self.spatial_size, len(spatial_size))
        sides = tuple(side * scale for side, scale in zip(spatial_size, scales, strict=True))
        if max(sides) > _MAX_SIDE:
            raise OverflowError(f"Upsample: sides are {sides}, expected at most {_MAX_SIDE}, as coordinates are int32")
        return sides

    def __str__(self) -> str:
        words = f"x {_short(self.scale)}"
        return words if self.spatial_size is None else f"{words} to {_short(self.spatial_size)}"


class Copies(NamedTuple):
    """The result of `copies_of`.

    sites : the M copies, on the finer grid
    parents : (M, 1) int32, the row of the site that each is a copy of
    children : (N, K) int32, the rows of the K copies of each site, row-major; -1 for those beyond the finer grid
    """

    sites: ActiveSites
    parents: Any
    children: Any


def copies_of(sites: ActiveSites, upsampling: Upsampling) -> Copies:
    """The sites on a finer grid to which `sites` are copied, which these keep, as they keep rulebooks.

    Raises ValueError if the numbers are not as many as dimensions, OverflowError if there are more than 2^31 - 1 copies
    or more cells than int64 keys can name.
    """
    if sites._copies is None:
        sites._copies = {}
    known = sites._copies.get(upsampling)
    return sites._copies.setdefault(upsampling, _copied(sites, upsampling)) if known is None else known


def _copied(sites: ActiveSites, upsampling: Upsampling) -> Copies:
    xp = array_module(sites.keys)
    scales, size = upsampling.scales(sites.dimension), upsampling.output_size(sites.spatial_size)
    shape = len(sites), prod(scales)
    if prod(shape) > _MAX_SIDE or sites.batch_size * prod(size) >= 2**63:
        raise OverflowError(f"Upsample: {shape[0]} sites have {prod(shape)} copies on grids of {size}: copies must be "
                            "below 2^31 and the cells of all grids below 2^63: use a smaller scale_factor or batch")
    keys = xp.broadcast_to(sites.coordinates[:, :1].astype(np.int64), shape)
    inside = None
    for axis, place in enumerate(np.indices(scales).reshape(len(scales), -1)):
        cells = sites.coordinates[:, 1 + axis, None].astype(np.int64) * scales[axis] + xp.asarray(place)
        keys = keys * size[axis] + cells
        if sites.spatial_size[axis] * scales[axis] > size[axis]:
            inside = cells < size[axis] if inside is None else inside & (cells < size[axis])
    numbers = xp.arange(keys.size) if inside is None else xp.flatnonzero(inside)
    keys = keys.reshape(-1)[numbers]
    order = xp.argsort(keys)  # the copies of a site lie on several lines of the finer grid
    numbers = numbers[order]
    children = xp.full(prod(shape), -1, np.int32)
    children[numbers] = xp.arange(numbers.size, dtype=np.int32)
    return Copies(type(sites).from_keys(keys[order], size, sites.batch_size),
                  (numbers // shape[1]).astype(np.int32)[:, None], children.reshape(shape))


def _checked(name: str, value: Any) -> Numbers:
    numbers = several(value)
    for number in (value,) if numbers is None else numbers:
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 1 <= number <= _MAX_SIDE:
            raise ValueError(f"Upsample: {name} is {value!r}, expected whole numbers from 1 to {_MAX_SIDE}")
    return int(value) if numbers is None else tuple(int(number) for number in numbers)


def _per_axis(name: str, numbers: Numbers, dimension: int) -> tuple[int, ...]:
    if isinstance(numbers, int):
        return (numbers,) * dimension
    if len(numbers) != dimension:
        raise ValueError(f"Upsample: {name} is {numbers}, expected {dimension} numbers for the {dimension} dimensions "
                         "of the input")
    return numbers


def _short(numbers: Numbers) -> str:
    return str(numbers) if isinstance(numbers, int) else "x".join(map(str, numbers))
