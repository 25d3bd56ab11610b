"""A batch of meshes, each with its own placement, to the keys of one batch of grids.

    vertices (V, 3)   mesh 0 ... | mesh 1 ... |     vertex_splits (S+1,)
    faces (F, 3)      mesh 0 ... | mesh 1 ... |     face_splits (S+1,)     rows within their mesh
    placements (S, 21)    rotation, row by row | affine, row by row | shift

    keys (n,)         sorted: the row-major index of (mesh, x, y, z)
"""

from __future__ import annotations

from math import prod

import numpy as np

from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.table import launch
from sparsenet.kernels.voxels.contract import VOXELIZE_MESHES, MeshFault
from sparsenet.kernels.voxels.placement import place


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

    def voxelize(s: int) -> None:
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

    run_blocks(voxelize, samples)
    return np.concatenate(parts) if parts else np.zeros(0, np.int64), dropped
