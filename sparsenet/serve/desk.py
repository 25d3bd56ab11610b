"""The work of a worker process: it reads meshes, draws them, and passes them through the network."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.serve.drawing import packed_cells, packed_mesh
from sparsenet.serve.limits import Limits
from sparsenet.shapes import Mesh, MeshError, Off3DPicture, Voxelization, parametric_mesh
from sparsenet.shapes.content import mesh_format
from sparsenet.shapes.reading import parse_mesh, unpacked, up_axis_of

if TYPE_CHECKING:
    from sparsenet.data import SparseDataset
    from sparsenet.sparse import SparseTensor


@dataclass(frozen=True)
class Recipe:
    """How a shape becomes voxels and a descriptor.

    model : a model of the package, or a checkpoint
    up_axis : of the meshes, "auto", "y" or "z"; None: the model's
    turns : poses whose descriptors are averaged; None: as `embed_folder`
    of_file : of descriptors in a file: how they were computed.  None: those of a folder
    """

    model: str
    up_axis: str | None = None
    turns: int | None = None
    of_file: OfFile | None = None


@dataclass(frozen=True)
class OfFile:
    """The settings of `Descriptors` (see there) that make a query comparable with them."""

    render_size: int
    fill: bool
    up_axis: str
    layer: int
    output: str


@dataclass(frozen=True)
class Place:
    """Where a shape of the gallery lies: a mesh file, or a sample of a dataset file."""

    path: str
    sample: int | None = None


class Desk:
    """The tasks of a worker process.  limits : of the meshes that users send."""

    def __init__(self, recipe: Recipe, limits: Limits, threads: int = 0):
        from sparsenet.kernels import set_num_threads
        from sparsenet.models.classification import classifies
        from sparsenet.models.pretrained import model_path
        from sparsenet.training import load_network

        if threads:
            set_num_threads(threads)
        self.recipe, self.limits = recipe, limits
        self.net, _ = load_network(model_path(recipe.model))
        self.classes = list(self.net.classes or ()) if classifies(self.net) else []
        self.treatment = _treatment(recipe, self.net.voxelization)
        x, y, z = self.net.field or (self.treatment.render_size,) * 3
        self.field = (x, y, z)
        self._datasets: dict[str, SparseDataset] = {}

    def warm_up(self) -> None:
        """Pass a shape through everything, so that it is compiled, and limit the memory from here on."""
        self._described(parametric_mesh("chair", np.random.default_rng(0)))
        _limit_memory(self.limits.memory)

    # ---- queries ----

    def search(self, data: bytes, up_axis: str | None) -> dict[str, Any]:
        """The descriptor of a mesh in the bytes of a file, what the network makes of it, and its drawing.

        up_axis : "auto", "y" or "z"; None: as the recipe says

        Returns
        -------
        vector : (C,);  classes : (name, probability) of the five most probable;  format, up, vertices, faces, dropped;
        voxels, mesh : see `drawing`

        Raises MeshError, whose message is one line.
        """
        suffix, axis, mesh = self._upright(data, up_axis)
        vector, probabilities = self._described(mesh)
        best = [] if probabilities is None else np.argsort(-probabilities, kind="stable")[:5].tolist()
        classes = [] if probabilities is None else [(self.classes[k], float(probabilities[k])) for k in best]
        return {"vector": vector, "classes": classes, "format": suffix[1:].upper(), "up": axis,
                "vertices": len(mesh.vertices), "faces": len(mesh.faces), **self._drawn(mesh)}

    def inspector_of_sent(self, data: bytes, up_axis: str | None, title: str) -> str:
        """The inspector page of a mesh that a user sent; see `search`."""
        return self._inspector_of(self._upright(data, up_axis)[2], title)

    def _upright(self, data: bytes, up_axis: str | None) -> tuple[str, str, Mesh]:
        """The suffix of the format, the up axis, and the mesh with z up."""
        suffix, mesh = self._parsed(data)
        self.limits.check_mesh(mesh)
        axis = self._axis(suffix, up_axis)
        return suffix, axis, mesh.upright(axis)

    def _parsed(self, data: bytes) -> tuple[str, Mesh]:
        try:
            if data[:2] == b"\x1f\x8b":
                data = unpacked(data, self.limits.unpacked)
            suffix = mesh_format(data)
            return suffix, parse_mesh(data, suffix)
        except MemoryError:
            raise MeshError("there is not enough memory to read it") from None

    def _axis(self, name: str, up_axis: str | None) -> str:
        axis = up_axis or self.recipe.up_axis or self.treatment.up_axis
        return up_axis_of(f"mesh{name}" if name.startswith(".") else name) if axis == "auto" else axis

    def _described(self, mesh: Mesh) -> tuple[np.ndarray, np.ndarray | None]:
        """The descriptor (C,) of an upright mesh, and its classes' probabilities, None without classes."""
        from sparsenet.models.folder import describe
        from sparsenet.nn.prediction import output_rows
        from sparsenet.retrieval import embed

        settings = self.recipe.of_file
        if settings is None:
            vectors, probabilities = describe(self.net, [mesh], self.recipe.turns)
            return vectors[0], None if probabilities is None else probabilities[0]
        x = self._tensor(self.treatment.voxelize(mesh, self.field).coordinates)
        vector = embed(self.net, x, settings.layer or None, output=settings.output)[0]
        with self.net.evaluating():
            return vector, output_rows(self.net, x, True)[0] if self.classes else None

    def _tensor(self, cells: np.ndarray) -> SparseTensor:
        from sparsenet.sparse import SparseTensor

        x = SparseTensor(np.ones((len(cells), 1), np.float32), np.insert(cells, 0, 0, axis=1), self.field, 1)
        weights = next(self.net.parameters())
        return x.to(weights.device, weights.dtype)

    def _drawn(self, mesh: Mesh) -> dict[str, Any]:
        from sparsenet.inspect.page.shape import mesh_in_cells

        voxels = self.treatment.voxelize(mesh, self.field)
        placed = mesh_in_cells(Off3DPicture(mesh, self.treatment.render_size), self.field)
        return {"voxels": packed_cells(voxels.coordinates), "mesh": packed_mesh(placed, voxels.coordinates),
                "dropped": voxels.dropped}

    # ---- shapes of the gallery ----

    def voxels(self, place: Place) -> dict[str, Any]:
        """The voxels of a shape of the gallery.  Raises MeshError or OSError if it is no longer there."""
        if place.sample is not None:
            return packed_cells(self._cells_of_sample(place))
        return packed_cells(self.treatment.voxelize(self._mesh_of(place), self.field).coordinates)

    def shape(self, place: Place) -> dict[str, Any]:
        """The voxels and, if there is one, the mesh of a shape of the gallery, drawn as a query is."""
        if place.sample is not None:
            return {"voxels": packed_cells(self._cells_of_sample(place)), "mesh": None, "dropped": 0}
        mesh = self._mesh_of(place)
        return {"vertices": len(mesh.vertices), "faces": len(mesh.faces), **self._drawn(mesh)}

    def inspector(self, place: Place, title: str) -> str:
        """The inspector page of a shape of the gallery."""
        from sparsenet.inspect.page import inspector_page

        if place.sample is None:
            return self._inspector_of(self._mesh_of(place), title)
        chosen = self._dataset(place).select([place.sample])
        settings = self.recipe.of_file
        size, fill = (None, None) if settings is None else (settings.render_size, settings.fill)
        with chosen.batches(1, field=self.field, geometries=self.net.geometries(), render_size=size, fill=fill
                            ) as batches:
            return inspector_page(self.net, next(batches).input, None, self.classes, title)

    def _inspector_of(self, mesh: Mesh, title: str) -> str:
        """The inspector page of an upright mesh."""
        from sparsenet.inspect.page import inspector_page
        from sparsenet.inspect.page.shape import mesh_in_cells

        x = self._tensor(self.treatment.voxelize(mesh, self.field).coordinates)
        placed = mesh_in_cells(Off3DPicture(mesh, self.treatment.render_size), self.field)
        return inspector_page(self.net, x, placed, self.classes, title)

    def _mesh_of(self, place: Place) -> Mesh:
        try:
            return self.treatment.read(place.path, self.recipe.up_axis)
        except MeshError as error:
            raise MeshError(str(error).removeprefix(f"{place.path}: ")) from None  # paths are not told to clients

    def _dataset(self, place: Place) -> SparseDataset:
        from sparsenet.data import SparseDataset

        if place.path not in self._datasets:
            self._datasets[place.path] = SparseDataset.open(place.path)
        return self._datasets[place.path]

    def _cells_of_sample(self, place: Place) -> np.ndarray:
        shapes, settings, sample = self._dataset(place), self.recipe.of_file, place.sample or 0
        if settings is None or not shapes.has_meshes or (
                (shapes.render_size, shapes.fill) == (settings.render_size, settings.fill)):
            return shapes.voxels(sample)[0]
        return Off3DPicture(shapes.mesh(sample), settings.render_size).voxelize(
            settings.render_size, fill=settings.fill).coordinates


def _treatment(recipe: Recipe, of_model: Voxelization | None) -> Voxelization:
    if recipe.of_file is not None:
        return Voxelization(recipe.of_file.render_size, recipe.of_file.fill, recipe.of_file.up_axis)
    if of_model is None:
        raise ValueError(f"{recipe.model} does not know how meshes are voxelized: train it again, or serve the "
                         "descriptors of a dataset")
    return of_model


def _limit_memory(allowance: int) -> None:
    """Let this process map so many bytes more than it does now.  Does nothing on systems other than Linux."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * os.sysconf("SC_PAGE_SIZE") + allowance
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
