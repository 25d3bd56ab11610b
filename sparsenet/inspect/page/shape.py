"""The shape that the inspector page shows: how to voxelize it, and where its mesh lies among the cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.kernels.placement import LATTICE, place
from sparsenet.shapes.mesh import Mesh

if TYPE_CHECKING:
    from sparsenet.shapes import Off3DPicture
    from sparsenet.training import Config


def mesh_in_cells(picture: Off3DPicture, spatial_size: tuple[int, int, int]) -> Mesh:
    """The picture's mesh where `picture.voxelize(spatial_size)` meets the cells: cell c fills c to c+1."""
    mesh = picture.mesh.without_unused_vertices()
    return Mesh(place(mesh.vertices, spatial_size, picture.render_size) / LATTICE, mesh.faces)


def drawn_as_trained(config: Config, checkpoint: str | Path, render_size: int | None = None,
                     fill: bool | None = None) -> tuple[int, bool]:
    """Render size, and whether solids are filled: what is given, else as the shapes that were trained on.

    Raises
    ------
    ValueError : the render size is not given and neither the config nor the dataset's file tells it.
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
        raise ValueError(f"inspector page: {path}, the dataset that the network was trained on, is not there to tell "
                         f"the render size, and it is {render_size}: name one (--render-size)")
    return render_size, known[1] if fill is None else fill


def mesh_as_trained(path: str | Path, config: Config, checkpoint: str | Path) -> Mesh:
    """The mesh of a file, turned upright as those that were trained on; by its format if the dataset's file is not
    there to tell how.  Raises MeshError, OSError, see `read_mesh`."""
    from sparsenet.data import SparseDataset, read_upright

    dataset = _trained_on(config, checkpoint)
    if not dataset.exists():
        return read_upright(path)
    with SparseDataset.open(dataset) as shapes:
        return read_upright(path, shapes.up_axis)


def _trained_on(config: Config, checkpoint: str | Path) -> Path:
    return Path(config.data.path or Path(checkpoint).parent / "shapes.h5")
