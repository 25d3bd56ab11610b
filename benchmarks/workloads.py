"""The five workloads for convolutions: 64^3 cells, 20,000 sites, 32 -> 64 channels.

random    20,000 cells drawn without replacement: 2.9 neighbours per site within 3^3, itself included
surface   the 20,000 cells nearest to a sphere of radius 26.875 about the grid's centre, a shell two
          cells thick: 372,288 pairs within 3^3, 18.6 a site
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from sparsenet.nn import SparseConv, SubmanifoldConv

GRID = (64, 64, 64)
SITES = 20_000
C_IN, C_OUT = 32, 64
RADIUS = 26.875  # gives the 372,288 pairs
RANDOM_SEED = 3  # 58,026 pairs


@dataclass(frozen=True)
class Workload:
    """A pattern of sites and a filter.

    pattern : "random" or "surface";  size, stride : filter size and stride;  submanifold : outputs = inputs
    """

    pattern: str
    size: int
    stride: int = 1
    submanifold: bool = False

    @property
    def name(self) -> str:
        kind = "submanifold " if self.submanifold else ""
        stride = f" stride {self.stride}" if self.stride > 1 else ""
        return f"{kind}{self.size}^3{stride}, {self.pattern}"

    def coordinates(self) -> np.ndarray:
        """(20000, 4) int32 rows [0, x, y, z], sorted as by a voxelizer."""
        cells = random_cells() if self.pattern == "random" else surface_cells()
        rows = np.zeros((cells.size, 4), np.int32)
        rows[:, 1:] = np.stack(np.unravel_index(cells, GRID), axis=1)
        return rows

    def arrays(self) -> dict[str, np.ndarray]:
        """coordinates; features (20000, 32) and weight (K, 32, 64) float32."""
        rng = np.random.default_rng(1)
        features = rng.standard_normal((SITES, C_IN), np.float32)
        weight = rng.standard_normal((self.size ** 3, C_IN, C_OUT), np.float32) / np.float32(np.sqrt(C_IN * 8))
        return {"coordinates": self.coordinates(), "features": features, "weight": weight}

    def layer(self, weight: np.ndarray) -> SparseConv:
        """The layer, without a bias."""
        if self.submanifold:
            layer: SparseConv = SubmanifoldConv(C_IN, C_OUT, self.size, bias=False)
        else:
            layer = SparseConv(C_IN, C_OUT, self.size, self.stride, bias=False)
        layer.weight.array = weight.copy()
        return layer


WORKLOADS = (
    Workload("random", 3, submanifold=True),
    Workload("random", 3, stride=2),
    Workload("random", 2, stride=2),
    Workload("surface", 3, submanifold=True),
    Workload("surface", 2, stride=2),
)


def random_cells() -> np.ndarray:
    """(20000,) int64, sorted row-major indices."""
    return np.sort(np.random.default_rng(RANDOM_SEED).choice(prod(GRID), SITES, replace=False))


def surface_cells() -> np.ndarray:
    """(20000,) int64, sorted row-major indices."""
    offsets = np.indices(GRID) - (np.array(GRID).reshape(3, 1, 1, 1) - 1) / 2
    off_surface = np.abs(np.sqrt((offsets ** 2).sum(axis=0)) - RADIUS).ravel()
    return np.sort(np.argsort(off_surface, kind="stable")[:SITES])
