"""Voxelization on the GPU: boxes of bits, one for each mesh; see voxelize.cu and cells.cu.

    faces -> columns of cells in each face's box -> running sum -> a thread for every column sets bits
          -> bits counted, eight words a thread -> running sum -> listed, in row-major order

The number of cells is fetched, nothing else that a batch needs.  (For a single mesh whose lattice was not
made by us, its box and its soundness are fetched first.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import FILL_SOLID as FILL
from sparsenet.kernels.contracts import LATTICE
from sparsenet.kernels.contracts import VOXELIZE_TRIANGLES as VOXELIZE
from sparsenet.kernels.cuda.source import THREADS, CudaSource, blocks_for
from sparsenet.kernels.fetch import fetch

GROUP = 8  # words, as in the source
_COLUMNS = 4  # threads for each face, about what small triangles need
SOURCE = CudaSource("voxels/voxelize")
CELLS = CudaSource("voxels/cells")
VARIANTS = [(name, {}) for name in ("count_columns", "mark_triangles", "mark_coordinates", "count_cells", "list_cells",
                                    "fill_cells")]


@dataclass
class Boxes:
    """One box of cells for each of S meshes.

    bits : (S, box_x, box_y, words) uint32
    origins : (S, 3) int64, the cell of the grid at which each box begins
    grid : (3,) int, the sides of the grid
    """

    bits: Any
    origins: Any
    grid: tuple[int, int, int]

    @classmethod
    def empty(cls, xp: Any, low: np.ndarray, high: np.ndarray, grid: tuple[int, int, int]) -> Boxes:
        """Boxes, all of one size, that hold the cells low (S, 3) to high (S, 3), both included, of NumPy."""
        x, y, z = ((high - low).max(axis=0) + 1).tolist() if len(low) else (1, 1, 1)
        return cls(xp.zeros((len(low), x, y, -(-z // 32)), np.uint32), xp.asarray(low, dtype=np.int64), grid)

    def mark(self, faces: Any, face_splits: Any, lattice: Any, vertex_splits: Any, problems: Any) -> None:
        """Set the cells that triangles meet; problems (S,) int32 takes a bit for a vertex that is not there."""
        xp, samples, count = array_module(faces), len(self.origins), len(faces)
        counts = xp.empty(count, np.int32)
        kernel = SOURCE.kernel("count_columns")
        kernel(blocks_for(count), THREADS, faces, face_splits, lattice, vertex_splits, samples, count, problems, counts)
        ends = xp.cumsum(counts, dtype=np.int64)
        kernel = SOURCE.kernel("mark_triangles")
        kernel(blocks_for(_COLUMNS * count), THREADS, faces, face_splits, lattice, vertex_splits, samples, count,
               counts, ends, self.origins, *self.bits.shape[1:], self.bits)

    def count(self) -> tuple[Any, Any, Any]:
        """Cells in the grid in each group of words, their running sum, and (S,) int64 cells outside the grid."""
        xp = array_module(self.bits)
        counts = xp.empty(-(-self.bits.size // GROUP), np.int32)
        dropped = xp.zeros(len(self.bits), np.int64)
        kernel = CELLS.kernel("count_cells")
        kernel(blocks_for(counts.size), THREADS, self.bits, self.bits.size, *self.bits.shape[1:], self.origins,
               *self.grid, counts, dropped)
        return counts, xp.cumsum(counts, dtype=np.int64), dropped

    def fill(self) -> None:
        """Add the cells of the grid that are enclosed; forget those outside the grid."""
        xp = array_module(self.bits)
        free, outside = xp.empty_like(self.bits), xp.empty_like(self.bits)
        kernel = CELLS.kernel("fill_cells")
        kernel(len(self.bits), THREADS, self.bits, len(self.bits), *self.bits.shape[1:], self.origins, *self.grid, free,
               outside)

    def write(self, counts: Any, ends: Any, keys: Any = None, coordinates: Any = None) -> None:
        """List the cells in the grid, as keys (n,) int64 or as coordinates (n, 3) int32."""
        kernel = CELLS.kernel("list_cells")
        kernel(blocks_for(counts.size), THREADS, self.bits, self.bits.size, *self.bits.shape[1:], self.origins,
               *self.grid, counts, ends, keys, coordinates)

    def coordinates(self, counts: Any, ends: Any, total: int) -> Any:
        """(n, 3) int32 of the one mesh there is."""
        listed = array_module(self.bits).empty((total, 3), np.int32)
        self.write(counts, ends, coordinates=listed)
        return listed


@VOXELIZE.implementation("cuda")
def _voxelize_cuda(vertices, faces, spatial_size):
    xp = array_module(vertices)
    if not len(faces):
        return xp.zeros((0, 3), np.int32), 0
    corners = vertices[faces.ravel()]
    bounds = np.array(fetch(corners.min(axis=0), corners.max(axis=0))).reshape(2, 1, 3)
    boxes = Boxes.empty(xp, *bounds // LATTICE, spatial_size)
    splits = [xp.asarray([0, len(array)], dtype=np.int64) for array in (faces, vertices)]
    boxes.mark(faces, splits[0], vertices, splits[1], xp.zeros(1, np.int32))
    counts, ends, dropped = boxes.count()
    total, outside = fetch(ends[-1:], dropped)
    return boxes.coordinates(counts, ends, total), outside


@FILL.implementation("cuda")
def _fill_cuda(coordinates, spatial_size):
    xp = array_module(coordinates)
    if not len(coordinates):
        return xp.zeros((0, 3), np.int32)
    low, high = np.array(fetch(coordinates.min(axis=0), coordinates.max(axis=0))).reshape(2, 3)
    boxes = Boxes.empty(xp, low[None], high[None], spatial_size)
    kernel = SOURCE.kernel("mark_coordinates")
    kernel(blocks_for(len(coordinates)), THREADS, coordinates, len(coordinates), boxes.origins, *boxes.bits.shape[2:],
           boxes.bits)
    boxes.fill()
    counts, ends, _ = boxes.count()
    return boxes.coordinates(counts, ends, *fetch(ends[-1:]))
