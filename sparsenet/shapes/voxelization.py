"""Voxelization: the cells of a grid that the surface of a mesh intersects, or those of its solid."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.kernels.voxels import place
from sparsenet.shapes.mesh import Mesh


class Voxels(tuple):
    """The result of a voxelization.  Unpacks to `coordinates, features`.

    coordinates : (n, 3) int32, sorted row-major, each cell once
    features : (n, 1) float32, all ones
    dropped : number of intersected cells outside the grid
    labels : (n,) int32, the part that each cell is of, -1 if it is unknown; None if the mesh has no face labels
    """

    coordinates = property(operator.itemgetter(0))
    features = property(operator.itemgetter(1))
    dropped: int
    labels: np.ndarray | None

    def __new__(cls, coordinates: np.ndarray, features: np.ndarray, dropped: int,
                labels: np.ndarray | None = None) -> Voxels:
        voxels = super().__new__(cls, (coordinates, features))
        voxels.dropped, voxels.labels = dropped, labels
        return voxels

    def __getnewargs__(self) -> tuple[np.ndarray, np.ndarray, int, np.ndarray | None]:
        return self.coordinates, self.features, self.dropped, self.labels


def voxelize(mesh: Mesh, spatial_size: int | Sequence[int], render_size: int,
             rotation: np.ndarray | None = None, affine: np.ndarray | None = None,
             shift: np.ndarray | None = None, fill: bool = False) -> Voxels:
    """The cells whose closed cube intersects a triangle of the mesh, exactly (see `place` for its position).

    Parameters
    ----------
    mesh : Mesh
    spatial_size : the grid's sides in cells, one number or three
    render_size : cells along the longest side of the mesh's bounding box, a whole number
    rotation, affine : (3, 3) float64, optional
    shift : (3,) float64 in cells, optional
    fill : add the cells not connected to the grid's border through faces of inactive cells

    Returns
    -------
    Voxels : `coordinates, features`, and `.dropped`; if the mesh has face labels, `.labels`: a cell that faces of
        several parts intersect is of the one with the lowest label, and one that `fill` adds is of none, -1

    Raises
    ------
    ValueError : a size below 1, a matrix of another shape or not finite, or a placed mesh that extends
        over more than 700 cells (the limit of 64-bit integers).
    """
    size = grid_of(spatial_size)
    mesh = mesh.without_unused_vertices()
    lattice = place(mesh.vertices, size, render_size, rotation, affine, shift)
    coordinates, dropped = launch("voxelize_triangles", lattice, mesh.faces, size)
    if fill:
        coordinates = launch("fill_solid", coordinates, size)
    ones = array_module(coordinates).ones((len(coordinates), 1), np.float32)
    labels = None if mesh.face_labels is None else _labels(coordinates, lattice, mesh, size)
    return Voxels(coordinates, ones, dropped, labels)


def _labels(coordinates: np.ndarray, lattice: np.ndarray, mesh: Mesh, size: tuple[int, int, int]) -> np.ndarray:
    """(n,) int32: the lowest label of the faces that intersect each cell."""
    labels = np.full(len(coordinates), -1, np.int32)
    if not len(coordinates):
        return labels
    keys = np.ravel_multi_index(tuple(coordinates.T), size)
    for label in np.unique(mesh.face_labels)[::-1]:  # the lowest comes last and stays
        if label >= 0:
            part, _ = launch("voxelize_triangles", lattice, mesh.faces[mesh.face_labels == label], size)
            labels[np.searchsorted(keys, np.ravel_multi_index(tuple(part.T), size))] = label
    return labels


def grid_of(spatial_size: int | Sequence[int]) -> tuple[int, int, int]:
    """Three sides from one number or three.  Raises ValueError for anything else."""
    sides = tuple(spatial_size) if isinstance(spatial_size, Sequence | np.ndarray) else (spatial_size,) * 3
    sides = tuple(operator.index(side) for side in sides)
    if len(sides) != 3 or min(sides) < 1 or max(sides) >= 2**31:
        raise ValueError(f"voxelize: spatial_size is {spatial_size}, expected one or three positive numbers")
    return sides
