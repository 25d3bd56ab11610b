"""Shapes as the page draws them: packed voxels, and a mesh of few triangles in the same cells."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from sparsenet.inspect.page.arrays import packed_bits
from sparsenet.shapes import Mesh

SHOWN_FACES = 30_000  # triangles that a browser draws smoothly without a GPU
_GRIDS = (512, 256, 128, 64, 32, 16)  # lattices to which vertices are merged until that few are left


def base64_of(array: np.ndarray) -> str:
    """The bytes of an array, little-endian, as text."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def packed_cells(cells: np.ndarray) -> dict[str, Any]:
    """Cells (n, 3) as the bits of their bounding box, row-major, the first cell in the highest bit of a byte.

    Returns
    -------
    size : the sides of the box, [0, 0, 0] without a cell;  bits : base64 of uint8;  count : n
    """
    if not len(cells):
        return {"size": [0, 0, 0], "bits": "", "count": 0}
    _, size, bits = packed_bits(cells)
    return {"size": list(size), "bits": base64_of(bits), "count": len(cells)}


def packed_mesh(mesh: Mesh, cells: np.ndarray) -> dict[str, Any]:
    """A mesh in the cells of a grid, moved by the first cell of the voxels' box, as `packed_cells` moves them.

    Returns
    -------
    vertices : base64 of float32 (V, 3);  faces : base64 of uint32 (F, 3);  simplified : whether there were too many
    """
    simple = simplified(mesh)
    low = cells.min(axis=0) if len(cells) else np.zeros(3)
    return {"vertices": base64_of((simple.vertices - low).astype(np.float32)),
            "faces": base64_of(simple.faces.astype(np.uint32)), "simplified": simple is not mesh}


def simplified(mesh: Mesh, limit: int = SHOWN_FACES) -> Mesh:
    """A mesh of at most so many triangles that looks like it from afar; itself if it has no more.

    Vertices in the same cell of a lattice become one, its first, and triangles that collapse or coincide are dropped
    (Rossignac and Borrel 1993); on the finest lattice of a few that leaves so few, or else the largest are kept.
    """
    if len(mesh.faces) <= limit:
        return mesh
    low = mesh.vertices.min(axis=0)
    side = max(float((mesh.vertices.max(axis=0) - low).max()), np.finfo(float).tiny)
    faces = mesh.faces
    for grid in _GRIDS:
        lattice = np.minimum((mesh.vertices - low) / side * grid, grid - 1).astype(np.int64)
        _, first, owner = np.unique(lattice @ [grid * grid, grid, 1], return_index=True, return_inverse=True)
        faces = first[owner.ravel()][mesh.faces]
        faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
        _, kept = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
        faces = faces[np.sort(kept)]
        if len(faces) <= limit:
            break
    if not len(faces):
        faces = mesh.faces
    if len(faces) > limit:
        a, b, c = (mesh.vertices[faces[:, i]] for i in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        faces = faces[np.sort(np.argsort(-area, kind="stable")[:limit])]
    return Mesh(mesh.vertices, faces).without_unused_vertices()
