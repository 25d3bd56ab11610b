"""The shape on the inspector page: how to voxelize it, and the position of its mesh in the grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.kernels.voxels import LATTICE, place
from sparsenet.shapes.mesh import Mesh

if TYPE_CHECKING:
    from sparsenet.shapes import Off3DPicture
    from sparsenet.training import Config


def mesh_in_cells(picture: Off3DPicture, spatial_size: tuple[int, int, int]) -> Mesh:
    """The picture's mesh in the grid coordinates of `picture.voxelize(spatial_size)`: cell c fills c to c+1."""
    mesh = picture.mesh.without_unused_vertices()
    return Mesh(place(mesh.vertices, spatial_size, picture.render_size) / LATTICE, mesh.faces)


def drawn_as_trained(config: Config, checkpoint: str | Path, render_size: int | None = None,
                     fill: bool | None = None) -> tuple[int, bool]:
    """Render size, and whether solids are filled: the given values, by default those of the training shapes.

    Raises
    ------
    ValueError : the render size is not given, and is in neither the config nor the dataset's file.
    """
    from sparsenet.data import SparseDataset

    path = _trained_on(config, checkpoint)
    if path.exists():
        with SparseDataset.open(path) as shapes:
            known = config.data.render_size or shapes.render_size, shapes.fill
    else:
        known = config.data.render_size, False
    render_size = known[0] if render_size is None else render_size
    if render_size < 1:
        raise ValueError(f"inspector page: {path}, the training dataset, is missing, and its render size is unknown: "
                         "give one (--render-size)")
    return render_size, known[1] if fill is None else fill


def mesh_as_trained(path: str | Path, config: Config, checkpoint: str | Path) -> Mesh:
    """The mesh of a file, rotated upright like the training meshes, or by its format if the dataset's file is
    missing.  Raises MeshError or OSError, see `read_mesh`."""
    from sparsenet.data import SparseDataset, read_upright

    dataset = _trained_on(config, checkpoint)
    if not dataset.exists():
        return read_upright(path)
    with SparseDataset.open(dataset) as shapes:
        return read_upright(path, shapes.up_axis)


def _trained_on(config: Config, checkpoint: str | Path) -> Path:
    return Path(config.data.path or Path(checkpoint).parent / "shapes.h5")
