"""The contracts of voxelization."""

from __future__ import annotations

from math import prod

import numpy as np

from sparsenet.kernels.table import Array, Integers, Scalar, declare

# The largest extent of the triangles, in cells.  The largest number is the normal's: with sides of
# L steps it stays below 3 L^2 (L + 2 * LATTICE), which is 8.86e18 < 2^63 = 9.22e18 for 700 cells.
MAX_EXTENT = 700
LATTICE = 2048  # vertices come to lie on odd multiples of 1 / LATTICE of a cell
PLACEMENT = 21  # numbers of one: rotation and affine, row by row, and shift

VOXELIZE_TRIANGLES = declare(
    "voxelize_triangles", "voxels",
    "the cells that share a point with a triangle, row-major; how many more lie outside the grid",
    vertices=Array("int64", "V 3"),  # odd: 2048 steps to a cell, whose borders are even
    faces=Array("int32", "F 3"),
    spatial_size=Integers("3"),
)
FILL_SOLID = declare(
    "fill_solid", "voxels",
    "the cells, and those from which no path over faces of inactive cells leads to the border",
    coordinates=Array("int32", "N 3"),
    spatial_size=Integers("3"),
)
VOXELIZE_MESHES = declare(
    "voxelize_meshes", "voxels",
    "the keys of the cells that each mesh meets, once placed; how many more lie outside the grid",
    vertices=Array("float64", "V 3"),
    vertex_splits=Array("int64", "S1"),
    faces=Array("int32", "F 3"),
    face_splits=Array("int64", "S1"),
    placements="(S, 21) float64, on the host",
    spatial_size=Integers("3"),
    render_size=Scalar(int),
    fill=Scalar(bool),
)


class MeshFault(ValueError):
    """One of the meshes cannot be voxelized.

    mesh : its number in the batch;  reason : why, without that number
    """

    def __init__(self, mesh: int, reason: object):
        super().__init__(f"voxelize_meshes: mesh {mesh}: {reason}")
        self.mesh, self.reason = mesh, str(reason)


@VOXELIZE_TRIANGLES.guard("always")
def _triangles_fit_the_lattice(vertices, faces):
    if not len(faces):
        return
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise ValueError(f"voxelize_triangles: faces refer to vertices {int(faces.min())} to "
                         f"{int(faces.max())}, there are {len(vertices)}")
    if not (vertices & 1).all():
        raise ValueError("voxelize_triangles: vertices have even coordinates, expected odd ones, which lie "
                         "on no border of a cell")
    used = vertices[faces.ravel()]
    extent = int((used.max(axis=0) - used.min(axis=0)).max())
    if extent > MAX_EXTENT * LATTICE:
        raise ValueError(f"voxelize_triangles: triangles extend over {extent / LATTICE:.1f} cells, expected at "
                         f"most {MAX_EXTENT}, where 64-bit integers end: lower the render size")


@FILL_SOLID.guard("always")
def _cells_lie_in_the_grid(coordinates, spatial_size):
    if not len(coordinates):
        return
    low, high = coordinates.min(axis=0).tolist(), coordinates.max(axis=0).tolist()
    if min(low) < 0 or any(at >= side for at, side in zip(high, spatial_size, strict=True)):
        raise ValueError(f"fill_solid: coordinates reach from {low} to {high}, outside the grid of "
                         f"{list(spatial_size)}")


@VOXELIZE_MESHES.guard("always")
def _placements_are_on_the_host(placements, vertex_splits, spatial_size):
    samples = vertex_splits.size - 1
    if not isinstance(placements, np.ndarray) or placements.dtype != np.float64:
        raise TypeError("voxelize_meshes: placements are no float64 array of NumPy: keep them on the host")
    if placements.shape != (samples, PLACEMENT):
        raise ValueError(f"voxelize_meshes: placements have shape {placements.shape}, expected ({samples}, "
                         f"{PLACEMENT})")
    if not np.isfinite(placements).all():
        raise ValueError("voxelize_meshes: placements hold NaN or infinity, expected finite numbers")
    if samples * prod(spatial_size) >= 2**63:
        raise OverflowError(f"voxelize_meshes: {samples} grids of {spatial_size} have more cells than int64 keys can "
                            "name (2^63): use a smaller grid or batch")
