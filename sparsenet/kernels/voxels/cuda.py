"""Voxelization on a GPU: boxes of bits, one for each mesh; see placement.cu, voxelize.cu and cells.cu.

    faces -> columns of cells in each face's box -> running sum -> a thread for every column sets bits
          -> bits counted, eight words a thread -> running sum -> listed, in row-major order

The number of cells is fetched, nothing else that a batch needs.  (For a single mesh whose lattice was not
made by us, its box and its soundness are fetched first.)

A batch stays on the GPU: the number of cells is fetched together with the flags of the meshes and their counts of cells
outside.  The boxes of bits are laid out from the placements alone, which the host knows: a vertex of the scaled mesh
lies within half the render size of the centre on every axis, before the affine map.  The bits of the result are those
of the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import THREADS, CudaSource, blocks_for
from sparsenet.kernels.fetch import fetch
from sparsenet.kernels.voxels.contract import FILL_SOLID as FILL
from sparsenet.kernels.voxels.contract import LATTICE, MAX_EXTENT, VOXELIZE_MESHES, MeshFault
from sparsenet.kernels.voxels.contract import VOXELIZE_TRIANGLES as VOXELIZE

GROUP = 8  # words, as in the source
_COLUMNS = 4  # threads for each face, about what small triangles need
SOURCE = CudaSource("voxels/voxelize", variants=[{}])
CELLS = CudaSource("voxels/cells", variants=[{}])
PLACEMENT = CudaSource("voxels/placement", variants=[{}])
_MAX_CELLS = 4 * MAX_EXTENT  # along a side of a box: the extent that a placement may allow, whatever the mesh
_PROBLEMS = {1: "it extends over more than float64 can hold: scale it down",
             2: "a vertex comes to lie 2^30 cells from the centre or beyond: rotation, affine, shift or the mesh "
                "itself is too large",
             4: f"its triangles extend over more than {MAX_EXTENT} cells: lower the render size",
             8: "its faces refer to vertices that are not there"}


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


@VOXELIZE_MESHES.implementation("cuda")
def _voxelize_meshes_cuda(vertices, vertex_splits, faces, face_splits, placements, spatial_size, render_size, fill):
    samples = vertex_splits.size - 1
    xp = array_module(vertices)
    if not samples or not len(faces):
        return xp.zeros(0, np.int64), np.zeros(samples, np.int64)
    lattice, problems = xp.empty((len(vertices), 3), np.int64), xp.empty(samples, np.int32)
    corner = [(side - render_size) // 2 for side in spatial_size]
    centre = [LATTICE * first + LATTICE // 2 * render_size for first in corner]
    PLACEMENT.kernel("place_meshes")(samples, THREADS, vertices, vertex_splits, xp.asarray(placements), samples,
                                  float(render_size), *centre, lattice, problems)
    boxes = Boxes.empty(xp, *_bounds(placements, np.array(corner), render_size), spatial_size)
    boxes.mark(faces, face_splits, lattice, vertex_splits, problems)
    counts, ends, dropped = boxes.count()
    if fill:
        boxes.fill()
        counts, ends, _ = boxes.count()
    total, *found = fetch(ends[-1:], problems, dropped)
    for s, problem in enumerate(found[:samples]):
        if problem:
            raise MeshFault(s, _PROBLEMS[problem & -problem])
    keys = xp.empty(total, np.int64)
    boxes.write(counts, ends, keys=keys)
    return keys, np.array(found[samples:], np.int64)


def _bounds(placements: np.ndarray, corner: np.ndarray, render_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and last cells (S, 3) that any mesh so placed can meet, with one more for the rounding."""
    extent = render_size / 2 * np.abs(placements[:, 9:18]).reshape(-1, 3, 3).sum(axis=2)
    if not extent.max() <= _MAX_CELLS / 2:
        raise MeshFault(int(extent.max(axis=1).argmax()), f"affine can stretch it over {2 * extent.max():g} cells, "
                        f"expected at most {_MAX_CELLS}: lower the render size")
    centre = np.clip(corner + render_size / 2 + placements[:, 18:], -2.0**40, 2.0**40)  # the kernel reports more
    return np.floor(centre - extent).astype(np.int64) - 1, np.floor(centre + extent).astype(np.int64) + 1
