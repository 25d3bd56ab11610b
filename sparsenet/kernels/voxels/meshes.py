"""A batch of meshes, turned and placed each in its own way, to the keys of one batch of grids.

    vertices (V, 3)   mesh 0 ... | mesh 1 ... |     vertex_splits (S+1,)
    faces (F, 3)      mesh 0 ... | mesh 1 ... |     face_splits (S+1,)     rows within their mesh
    placements (S, 21)    rotation, row by row | affine, row by row | shift

    keys (n,)         sorted: the row-major index of (mesh, x, y, z)

On a GPU all of it stays there (placement.cu, voxelize.cu, cells.cu); the number of cells is
fetched together with the flags of the meshes and their counts of cells outside.  The boxes of bits are laid
out from the placements alone, which the host knows: a vertex of the scaled mesh lies within half the render
size of the centre on every axis, before the affine map.  The bits of the result are those of the CPU.
"""

from __future__ import annotations

from math import prod

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import LATTICE, MAX_EXTENT, VOXELIZE_MESHES, MeshFault
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.cuda.source import THREADS, CudaSource
from sparsenet.kernels.fetch import fetch
from sparsenet.kernels.table import launch
from sparsenet.kernels.voxels.cuda import Boxes
from sparsenet.kernels.voxels.placement import place

_MOST_CELLS = 4 * MAX_EXTENT  # along a side of a box: what a placement may reach, if not every mesh
SOURCE = CudaSource("voxels/placement")
VARIANTS = [("place_meshes", {})]
_PROBLEMS = {1: "it extends over more than float64 can hold: scale it down",
             2: "a vertex comes to lie 2^30 cells from the centre or beyond: rotation, affine, shift or the mesh "
                "itself is too large",
             4: f"its triangles extend over more than {MAX_EXTENT} cells: lower the render size",
             8: "its faces refer to vertices that are not there"}


@VOXELIZE_MESHES.implementation("cpu")
def _voxelize_meshes_cpu(vertices, vertex_splits, faces, face_splits, placements, spatial_size, render_size, fill):
    """((n,) int64 sorted keys of the cells met, (S,) int64 of NumPy: how many lie outside the grid).

    Every vertex counts for the box of its mesh, used or not.

    Raises
    ------
    MeshFault : naming the mesh: it is too large for float64, for the lattice, or for 64-bit integers.
    OverflowError : the grids have more cells than keys can name.
    """
    samples = vertex_splits.size - 1
    dropped = np.zeros(samples, np.int64)
    parts = [np.zeros(0, np.int64)] * samples

    def block(s: int) -> None:
        own_vertices = vertices[vertex_splits[s]:vertex_splits[s + 1]]
        own_faces = faces[face_splits[s]:face_splits[s + 1]]
        if not len(own_faces):
            return
        rotation, affine, shift = (part.reshape(-1, 3) for part in np.split(placements[s], (9, 18)))
        try:
            lattice = place(own_vertices, spatial_size, render_size, rotation, affine, shift[0])
            cells, dropped[s] = launch("voxelize_triangles", lattice, own_faces, spatial_size, backend="cpu")
        except ValueError as error:
            raise MeshFault(s, error) from error
        if fill:
            cells = launch("fill_solid", cells, spatial_size, backend="cpu")
        strides = np.array([spatial_size[1] * spatial_size[2], spatial_size[2], 1])
        parts[s] = s * prod(spatial_size) + cells @ strides

    run_blocks(block, samples)
    return np.concatenate(parts) if parts else np.zeros(0, np.int64), dropped


@VOXELIZE_MESHES.implementation("cuda")
def _voxelize_meshes_cuda(vertices, vertex_splits, faces, face_splits, placements, spatial_size, render_size, fill):
    samples = vertex_splits.size - 1
    xp = array_module(vertices)
    if not samples or not len(faces):
        return xp.zeros(0, np.int64), np.zeros(samples, np.int64)
    lattice, problems = xp.empty((len(vertices), 3), np.int64), xp.empty(samples, np.int32)
    corner = [(side - render_size) // 2 for side in spatial_size]
    centre = [LATTICE * first + LATTICE // 2 * render_size for first in corner]
    SOURCE.kernel("place_meshes")(samples, THREADS, vertices, vertex_splits, xp.asarray(placements), samples,
                                  float(render_size), *centre, lattice, problems)
    boxes = Boxes.empty(xp, *_reach(placements, np.array(corner), render_size), spatial_size)
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


def _reach(placements: np.ndarray, corner: np.ndarray, render_size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last cells (S, 3) that a mesh of any form can reach, and one more for the rounding."""
    reach = render_size / 2 * np.abs(placements[:, 9:18]).reshape(-1, 3, 3).sum(axis=2)
    if not reach.max() <= _MOST_CELLS / 2:
        raise MeshFault(int(reach.max(axis=1).argmax()), f"affine can stretch it over {2 * reach.max():g} cells, "
                        f"expected at most {_MOST_CELLS}: lower the render size")
    centre = np.clip(corner + render_size / 2 + placements[:, 18:], -2.0**40, 2.0**40)  # beyond: told by the kernel
    return np.floor(centre - reach).astype(np.int64) - 1, np.floor(centre + reach).astype(np.int64) + 1
