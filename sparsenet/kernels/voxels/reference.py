"""Voxelization: integers on a lattice of 2048 steps to a cell."""

from __future__ import annotations

from itertools import product

import numpy as np

from sparsenet.backend import REFERENCE
from sparsenet.kernels.rulebook.reference import keys_of
from sparsenet.kernels.table import formula_of, launch
from sparsenet.kernels.voxels.contract import LATTICE, MeshFault
from sparsenet.kernels.voxels.placement import place


@formula_of("voxelize_triangles")
def voxelize_triangles(vertices, faces, spatial_size):
    """((n, 3) int32 cells that a triangle meets, row-major; how many more lie outside the grid).  A triangle and a
    closed cube share no point if, and only if, their shadows on one of 13 axes are apart: the 3 of the grid, its
    normal, and the products of its edges with those 3.  A cube around each triangle is halved down to cells."""
    corners = vertices[faces]
    first, last = corners.min(axis=1) // LATTICE, corners.max(axis=1) // LATTICE
    middle = (first + last) // 2
    corners = corners - LATTICE * middle[:, None]  # from the triangle's middle cell: all products fit 64 bits
    edges = np.roll(corners, -1, axis=1) - corners
    axes = [np.cross(edges[:, 0], edges[:, 1])]
    axes += [np.cross(edges[:, e], one) for e in range(3) for one in np.eye(3, dtype=np.int64)]
    shadows = [(axis, (corners * axis[:, None]).sum(axis=2)) for axis in axes]
    face, box = np.arange(len(faces)), first - middle  # cubes of `side` cells, from `box` on, each with its triangle
    levels = int((last - first).max(initial=0)).bit_length()
    for side in (2**level for level in reversed(range(levels))):
        halves = side * np.array(list(product((0, 1), repeat=3)))
        face, box = np.repeat(face, 8), (box[:, None] + halves).reshape(-1, 3)
        meets, half = (box <= (last - middle)[face]).all(axis=1), LATTICE * side // 2
        for axis, at in shadows:
            centre = np.einsum("nd,nd->n", LATTICE * box + half, axis[face])
            reach = half * np.abs(axis).sum(axis=1)
            meets &= ((at.min(axis=1) - reach)[face] <= centre) & (centre <= (at.max(axis=1) + reach)[face])
        face, box = face[meets], box[meets]
    cells = np.unique(middle[face] + box, axis=0)
    inside = ((cells >= 0) & (cells < spatial_size)).all(axis=1)
    return cells[inside].astype(np.int32), len(cells) - int(inside.sum())


@formula_of("fill_solid")
def fill_solid(coordinates, spatial_size):
    """(n, 3) int32: the cells, and those from which no path over faces of inactive cells leads to the border."""
    if not len(coordinates):
        return coordinates.copy()
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    outside = np.pad(np.zeros(high - low + 1, bool), 1, constant_values=True)  # one cell around them all
    inactive = np.ones(outside.shape, bool)
    inactive[tuple((coordinates - low + 1).T)] = False
    reached = 0
    while reached < (reached := int(outside.sum())):
        for axis, step in product(range(3), (-1, 1)):
            outside |= np.roll(outside, step, axis) & inactive  # nothing comes around: the border is outside
    return (np.argwhere(~outside) + low - 1).astype(np.int32)


@formula_of("voxelize_meshes")
def voxelize_meshes(vertices, vertex_splits, faces, face_splits, placements, spatial_size, render_size, fill):
    """((n,) int64 sorted keys of the cells that the meshes meet, (S,) int64 how many lie outside the grid)."""
    keys, dropped = [np.zeros(0, np.int64)], np.zeros(len(placements), np.int64)
    for s in np.flatnonzero(np.diff(face_splits)).tolist():  # a mesh without faces meets no cell
        own, own_faces = vertices[vertex_splits[s] : vertex_splits[s + 1]], faces[face_splits[s] : face_splits[s + 1]]
        placed = placements[s].reshape(7, 3)  # rotation, affine and shift
        try:
            lattice = place(own, spatial_size, render_size, placed[:3], placed[3:6], placed[6])
            cells, dropped[s] = launch("voxelize_triangles", lattice, own_faces, spatial_size, backend=REFERENCE)
        except ValueError as error:
            raise MeshFault(s, error) from error
        cells = fill_solid(cells, spatial_size) if fill else cells
        keys.append(keys_of(np.full(len(cells), s), cells, spatial_size))
    return np.concatenate(keys), dropped
