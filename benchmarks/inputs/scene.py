"""Sites, rulebooks and features of one size, from which the inputs of kernels are taken."""

from __future__ import annotations

from functools import cached_property
from math import ceil, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.sparse import ActiveSites, Geometry, Rulebook

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh

BATCH, CHANNELS, OUT_CHANNELS = 4, 32, 64
SUBMANIFOLD = Geometry.make_submanifold(3, 3)
POOLING, PADDED_POOLING = Geometry.make(3, 3, 2), Geometry.make(3, 3, 2, 1)


class Scene:
    """The surfaces of `BATCH` equal spheres, two cells thick, of `size` sites together; the same at each call.

    rng : random numbers that depend on the size alone
    """

    def __init__(self, size: int):
        if size < BATCH:
            raise ValueError(f"benchmark kernel: size is {size}, expected at least {BATCH}, a site for each sample")
        self.size, self.rng = size, np.random.default_rng(size)

    @cached_property
    def sites(self) -> ActiveSites:
        cells, side = sphere(self.size // BATCH)
        coordinates = np.concatenate([np.insert(cells, 0, b, axis=1) for b in range(BATCH)])
        return ActiveSites(coordinates, (side,) * 3, BATCH)

    def rulebook(self, geometry: Geometry) -> Rulebook:
        return self.sites.rulebook(geometry)

    def axes(self, geometry: Geometry) -> tuple[tuple[int, ...], ...]:
        """The grids and the filter, as the kernels of rulebooks take them."""
        sides = self.sites.spatial_size
        return sides, geometry.output_size(sides), geometry.size, geometry.stride, geometry.padding, geometry.dilation

    def normal(self, *shape: int) -> np.ndarray:
        """float32, standard normal."""
        return self.rng.standard_normal(shape, np.float32)

    def features(self, channels: int = CHANNELS) -> np.ndarray:
        """(N, channels) float32."""
        return self.normal(len(self.sites), channels)

    def background(self, channels: int = CHANNELS) -> np.ndarray:
        """(1, channels) float32."""
        return self.normal(1, channels)

    def weights(self, *shape: int) -> np.ndarray:
        """float32, so small that sums over the first two axes keep the variance of the features."""
        return self.normal(*shape) / np.float32(sqrt(shape[0] * shape[1]))

    def mesh(self) -> Mesh:
        """A ball of `size` triangles, or a few less."""
        from sparsenet.shapes.primitives import assembled, ball

        return assembled([ball(1.0, (0, 0, 0), sections=max(4, int(sqrt(self.size))))])


def sphere(count: int) -> tuple[np.ndarray, int]:
    """(count, 3) int32: the cells nearest to a sphere, row-major; and the side of the grid around them."""
    side = 2 * ceil(sqrt(count / (8 * pi)) + 2)
    offsets = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    squares = offsets**2
    away = np.sqrt(squares[:, None, None] + squares[:, None] + squares)
    nearest = np.argsort(np.abs(away - np.float32(sqrt(count / (8 * pi)))).ravel(), kind="stable")[:count]
    cells: Any = np.unravel_index(np.sort(nearest), (side,) * 3)
    return np.stack(cells, axis=1).astype(np.int32), side
