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
    """

    coordinates = property(operator.itemgetter(0))
    features = property(operator.itemgetter(1))
    dropped: int

    def __new__(cls, coordinates: np.ndarray, features: np.ndarray, dropped: int) -> Voxels:
        voxels = super().__new__(cls, (coordinates, features))
        voxels.dropped = dropped
        return voxels

    def __getnewargs__(self) -> tuple[np.ndarray, np.ndarray, int]:
        return self.coordinates, self.features, self.dropped


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
    Voxels : `coordinates, features`, and `.dropped`

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
    return Voxels(coordinates, ones, dropped)


def grid_of(spatial_size: int | Sequence[int]) -> tuple[int, int, int]:
    """Three sides from one number or three.  Raises ValueError for anything else."""
    sides = tuple(spatial_size) if isinstance(spatial_size, Sequence | np.ndarray) else (spatial_size,) * 3
    sides = tuple(operator.index(side) for side in sides)
    if len(sides) != 3 or min(sides) < 1 or max(sides) >= 2**31:
        raise ValueError(f"voxelize: spatial_size is {spatial_size}, expected one or three positive numbers")
    return sides
