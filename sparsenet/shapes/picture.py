"""Off3DPicture: a 3D model, from a file or in memory, with its label, ready to be voxelized."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsenet.shapes.mesh import Mesh
from sparsenet.shapes.reading import read_mesh
from sparsenet.shapes.voxelization import Voxels, voxelize


class Off3DPicture:
    """A 3D model and its render size.

    Parameters
    ----------
    path_or_mesh : a file for `read_mesh` (OFF, OBJ, PLY, STL, GLB and others), or anything that has `vertices`
        (V, 3) and `faces` (F, 3), such as a Mesh or a trimesh.Trimesh
    render_size : cells along the longest side of the mesh's bounding box
    label : the class, -1 if unknown

    Attributes
    ----------
    mesh : Mesh
    render_size, label : as given

    Raises
    ------
    MeshError : the file or the mesh cannot be used; the message says why.
    ValueError : render_size is not a positive whole number.

    Example
    -------
    >>> from sparsenet.shapes import Mesh
    >>> triangle = Mesh([[0, 0, 0], [2, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> coordinates, features = Off3DPicture(triangle, render_size=40).voxelize(126)
    >>> coordinates.min(axis=0), coordinates.max(axis=0)  # 40 cells along the longest side
    (array([43, 53, 63], dtype=int32), array([82, 72, 63], dtype=int32))
    """

    def __init__(self, path_or_mesh: str | os.PathLike | Any, render_size: int = 40, label: int = -1):
        if isinstance(path_or_mesh, str | os.PathLike):
            self.mesh = read_mesh(path_or_mesh)
        elif isinstance(path_or_mesh, Mesh):
            self.mesh = path_or_mesh
        elif hasattr(path_or_mesh, "vertices") and hasattr(path_or_mesh, "faces"):
            self.mesh = Mesh(np.array(path_or_mesh.vertices), np.array(path_or_mesh.faces))
        else:
            raise TypeError(f"Off3DPicture: path_or_mesh is {type(path_or_mesh).__name__}, expected a "
                            "path or an object with vertices and faces")
        if not isinstance(render_size, int | np.integer) or render_size < 1:
            raise ValueError(f"Off3DPicture: render_size is {render_size!r}, expected a positive whole number of cells")
        self.render_size = int(render_size)
        self.label = label

    def voxelize(self, spatial_size: int | Sequence[int], rotation: np.ndarray | None = None,
                 affine: np.ndarray | None = None, shift: np.ndarray | None = None,
                 fill: bool = False) -> Voxels:
        """The cells of a grid that the surface intersects, or with `fill=True` those of the solid.

        Parameters
        ----------
        spatial_size : the grid's sides in cells, one number or three
        rotation, affine, shift : (3, 3), (3, 3) and (3,) float64 in cells; the mesh is rotated, centred and
            scaled to the render size, then mapped and shifted (an `Augmentation` draws all three)
        fill : add the cells of the grid enclosed by the surface

        Returns
        -------
        Voxels : unpacks to coordinates (n, 3) int32 sorted row-major and features (n, 1) float32 ones;
            its `dropped` is the number of intersected cells outside the grid

        Raises
        ------
        ValueError : see `sparsenet.shapes.voxelize`.
        """
        return voxelize(self.mesh, spatial_size, self.render_size, rotation, affine, shift, fill)

    def __repr__(self) -> str:
        return (f"Off3DPicture({len(self.mesh.vertices)} vertices, {len(self.mesh.faces)} faces, "
                f"render_size={self.render_size}, label={self.label})")
