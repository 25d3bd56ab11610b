"""How the shapes of a dataset became voxels, so that another mesh gets the same treatment."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsenet.shapes.augment import rotation_about
from sparsenet.shapes.mesh import Mesh
from sparsenet.shapes.picture import Off3DPicture
from sparsenet.shapes.reading import up_axis_of
from sparsenet.shapes.voxelization import Voxels, voxelize

AXES = ("auto", "y", "z")


@dataclass(frozen=True)
class Voxelization:
    """How the shapes that a network was trained on were voxelized.

    render_size : cells along the longest side of a mesh's bounding box
    fill : whether the shapes are solids; if not, surfaces
    up_axis : axis along which the meshes stand in their files, "y" or "z"; "auto": by the file's format (see
        `sparsenet.shapes.reading.up_axis_of`)
    turns : number of poses, evenly spaced about the vertical, over which the network's outputs are averaged

    Raises ValueError for a number below 1 or another axis.
    """

    render_size: int
    fill: bool = False
    up_axis: str = "auto"
    turns: int = 1

    def __post_init__(self) -> None:
        if self.render_size < 1 or self.turns < 1:
            raise ValueError(f"Voxelization: render_size is {self.render_size} and turns is {self.turns}, expected at "
                             "least 1")
        _check_axis(self.up_axis)

    def read(self, mesh: str | os.PathLike | Any, up_axis: str | None = None) -> Mesh:
        """The mesh with z up.

        mesh : a file for `read_mesh`, or anything that has `vertices` (V, 3) and `faces` (F, 3)
        up_axis : of this mesh; default: as the training's.  For a mesh in memory, which has no format, "auto" is "z".

        Raises
        ------
        MeshError, OSError : the file or the mesh cannot be used.
        TypeError, ValueError : mesh is something else; another axis.
        """
        axis = self.up_axis if up_axis is None else up_axis
        _check_axis(axis)
        if axis == "auto":
            axis = up_axis_of(mesh) if isinstance(mesh, str | os.PathLike) else "z"
        return Off3DPicture(mesh, self.render_size).mesh.upright(axis)

    def voxelize(self, mesh: Mesh, field: int | Sequence[int] | None = None, rotation: np.ndarray | None = None
                 ) -> Voxels:
        """The cells of an upright mesh, centred in a grid.

        field : the grid's sides, one number or three; default: the render size
        rotation : (3, 3) float64, applied before the mesh is scaled

        Raises ValueError as `sparsenet.shapes.voxelize` does.
        """
        return voxelize(mesh, self.render_size if field is None else field, self.render_size, rotation, fill=self.fill)

    def rotations(self, turns: int | None = None) -> list[np.ndarray]:
        """The rotations of the poses about the vertical, (3, 3) float64 each, the first the identity.

        turns : their number; default: the training's.  Raises ValueError below 1.
        """
        count = self.turns if turns is None else operator.index(turns)
        if count < 1:
            raise ValueError(f"turns is {count}, expected at least 1")
        return [rotation_about(2, 2 * np.pi * k / count) if k else np.eye(3) for k in range(count)]


def _check_axis(axis: str) -> None:
    if axis not in AXES:
        raise ValueError(f"up_axis is {axis!r}, expected one of {', '.join(AXES)}")
