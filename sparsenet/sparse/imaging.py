"""Depth images of 3D grids: the pixels whose rays hit a site, as sites of 2D grids.

Parallel rays run through the slices of the grid, one slice after another.  Where a ray meets the middle of a slice, it
is in one cell, so each cell is in one pixel of each image, and nothing falls between pixels (the shear of Lacroute and
Levoy 1994, "Fast volume rendering using a shear-warp factorization of the viewing transformation"):

    across = left - round(tan(azimuth) * (slice - middle))        the pixel of a cell at (slice, left, height)
    up     = height + round(tan(elevation) / cos(azimuth) * (slice - middle))

The rays of image 0 run along the first of the two axes that are not up (x, if z is up), those of image v at an azimuth
of 360 v / V degrees to them, counterclockwise seen from above; all come from `elevation` degrees above the horizon.
The slices are those of the axis that the rays follow most closely, so the azimuth above is counted from that axis, at
most 45 degrees.  If V is a multiple of 4 and the grid's sides around the up axis are equal, a quarter turn of a shape
about it changes the order of its images alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sparsenet.backend import array_module

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites

MAX_COUNT, MAX_ELEVATION = 360, 60.0
_FRACTION = 2**16  # slopes are multiples of 1 / _FRACTION, so that all that follows is computed in integers


class _Rays(NamedTuple):
    """How the cells of a grid lie in an image.

    depth, across : (axis, flipped): where a ray leads to, and what is at the left of the image
    shifts : (2, slices) int64, pixels that each slice is moved by, across and up
    """

    depth: tuple[int, bool]
    across: tuple[int, bool]
    shifts: np.ndarray


@dataclass(frozen=True)
class DepthImaging:
    """The directions from which depth images of 3D grids are taken, all around.

    count : V, of images
    elevation : degrees above the horizon; below 0: from below
    up_axis : 0, 1 or 2

    Equal ones share the sites that they lead to.
    """

    count: int = 12
    elevation: float = 30.0
    up_axis: int = 2

    @classmethod
    def make(cls, count: int = 12, elevation: float = 30.0, up_axis: int = 2) -> DepthImaging:
        """Raises TypeError or ValueError for another kind of number, or one that is out of range."""
        count, up_axis = _whole("count", count), _whole("up_axis", up_axis)
        if not 1 <= count <= MAX_COUNT:
            raise ValueError(f"DepthImages: count is {count}, expected 1 to {MAX_COUNT}")
        if not 0 <= up_axis <= 2:
            raise ValueError(f"DepthImages: up_axis is {up_axis}, expected 0, 1 or 2")
        if isinstance(elevation, bool) or not isinstance(elevation, int | float | np.integer | np.floating):
            raise TypeError(f"DepthImages: elevation is {elevation!r}, expected a number of degrees")
        if not abs(elevation) <= MAX_ELEVATION:
            raise ValueError(f"DepthImages: elevation is {elevation}, expected degrees from {-MAX_ELEVATION:g} to "
                             f"{MAX_ELEVATION:g}")
        return cls(count, float(elevation), up_axis)

    def output_size(self, spatial_size: tuple[int, ...]) -> tuple[int, int]:
        """The images' sides, across and up: those of the largest; each image is centred.

        Raises ValueError if the grid does not have 3 dimensions.
        """
        sizes = [_own_size(rays, spatial_size, self.up_axis) for rays in self._rays(spatial_size)]
        return max(width for width, _ in sizes), max(height for _, height in sizes)

    def deepest(self, spatial_size: tuple[int, ...]) -> int:
        """The largest number of slices of an image."""
        return max(side for axis, side in enumerate(spatial_size) if axis != self.up_axis)

    def cells(self, coordinates: Any, spatial_size: tuple[int, ...]) -> list[tuple[Any, Any, Any]]:
        """For each image (across, up, depth) of each cell, (N,) int64: its pixel, and its slice from the front.

        coordinates : (N, 3) integer
        """
        xp, size = array_module(coordinates), self.output_size(spatial_size)
        found = []
        for rays in self._rays(spatial_size):
            depth, across = (_along(coordinates, axis, flipped, spatial_size) for axis, flipped in
                             (rays.depth, rays.across))
            own = _own_size(rays, spatial_size, self.up_axis)
            margins = (np.array(size) - own) // 2 - rays.shifts.min(axis=1)
            shifts = xp.asarray(rays.shifts + margins[:, None])
            found.append((across + shifts[0][depth], coordinates[:, self.up_axis] + shifts[1][depth], depth))
        return found

    def _rays(self, spatial_size: tuple[int, ...]) -> list[_Rays]:
        if len(spatial_size) != 3:
            raise ValueError(f"DepthImages: the grid has {len(spatial_size)} dimensions, expected 3")
        first, second = (axis for axis in range(3) if axis != self.up_axis)
        if self.up_axis == 1:
            first, second = second, first  # so that first, second and up are right-handed
        # the quarter turn of an azimuth -> (axis, flipped): along the rays, and to the left
        axes = [((first, False), (second, False)), ((second, False), (first, True)),
                ((first, True), (second, True)), ((second, True), (first, False))]
        found = []
        for number in range(self.count):
            quarters = (2 * 4 * number + self.count) // (2 * self.count)  # nearest, half up
            azimuth = math.radians((360 * number - 90 * quarters * self.count) / self.count)
            depth, across = axes[quarters % 4]
            slices = spatial_size[depth[0]]
            slopes = -math.tan(azimuth), math.tan(math.radians(self.elevation)) / math.cos(azimuth)
            found.append(_Rays(depth, across, np.stack([_shifts(slope, slices) for slope in slopes])))
        return found


class Images(NamedTuple):
    """The result of `images_of`.

    sites : the M pixels whose rays hit a site, of B V images: those of sample b are b V to b V + V - 1
    parents : (M, 1) int32, the row of the first site on the ray of each
    children : (N, V) int32, the row of the pixel of each image in which a site is the first; -1 if it is hidden there
    nearness : (M,) float64, 1 for a site in the front slice, less by 1 / slices for each slice behind it
    """

    sites: ActiveSites
    parents: Any
    children: Any
    nearness: Any


def images_of(sites: ActiveSites, imaging: DepthImaging) -> Images:
    """The pixels of depth images of the sites, which these keep, as they keep rulebooks.

    Raises ValueError if the grid does not have 3 dimensions, OverflowError if there are more sites in all images than
    2^31 - 1 or more cells than int64 keys can name.
    """
    if sites._copies is None:
        sites._copies = {}
    known = sites._copies.get(imaging)
    return sites._copies.setdefault(imaging, _imaged(sites, imaging)) if known is None else known


def _imaged(sites: ActiveSites, imaging: DepthImaging) -> Images:
    xp, count = array_module(sites.keys), imaging.count
    width, height = imaging.output_size(sites.spatial_size)
    slices, images = imaging.deepest(sites.spatial_size), sites.batch_size * count
    if len(sites) * count >= 2**31 or images * width * height * slices >= 2**63:
        raise OverflowError(f"DepthImages: {len(sites)} sites in {count} images each of {width} x {height} pixels, "
                            "expected fewer than 2^31 in all, and fewer than 2^63 cells: use a smaller batch")
    keys = xp.empty((len(sites), count), np.int64)
    first_image = sites.coordinates[:, 0].astype(np.int64) * count
    for number, (across, up, depth) in enumerate(imaging.cells(sites.coordinates[:, 1:], sites.spatial_size)):
        keys[:, number] = (((first_image + number) * width + across) * height + up) * slices + depth
    keys = keys.reshape(-1)
    order = xp.argsort(keys)  # no two are equal: a cell of an image is in one pixel, at one depth
    keys = keys[order]
    pixels = keys // slices
    is_first = xp.ones(len(pixels), bool)
    is_first[1:] = pixels[1:] != pixels[:-1]
    seen, keys = order[is_first], keys[is_first]
    children = xp.full(len(order), -1, np.int32)
    children[seen] = xp.arange(len(seen), dtype=np.int32)
    return Images(type(sites).from_keys(pixels[is_first], (width, height), images),
                  (seen // count).astype(np.int32)[:, None], children.reshape(len(sites), count),
                  1 - (keys % slices) / slices)


def _shifts(slope: float, slices: int) -> np.ndarray:
    """(slices,) int64: slope * (slice - the middle one), rounded to whole numbers, half up."""
    steps = round(slope * _FRACTION) * (2 * np.arange(slices, dtype=np.int64) - (slices - 1))
    return (steps + _FRACTION) // (2 * _FRACTION)


def _own_size(rays: _Rays, spatial_size: tuple[int, ...], up_axis: int) -> tuple[int, int]:
    """The sides of an image that all cells of the grid are in."""
    across, up = (rays.shifts.max(axis=1) - rays.shifts.min(axis=1)).tolist()
    return spatial_size[rays.across[0]] + across, spatial_size[up_axis] + up


def _along(coordinates: Any, axis: int, flipped: bool, spatial_size: tuple[int, ...]) -> Any:
    column = coordinates[:, axis].astype(np.int64)
    return spatial_size[axis] - 1 - column if flipped else column


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return index(value)
    except TypeError:
        raise TypeError(f"DepthImages: {name} is {value!r}, expected a whole number") from None
