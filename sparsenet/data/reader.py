"""Reads the samples of an open dataset file, from any thread."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.data.layout import open_file, read_classes
from sparsenet.data.mesh_store import MOST_BYTES, MeshStore
from sparsenet.files import arrays_digest
from sparsenet.kernels.streams import shared

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh, MeshBatch


class DatasetReader:
    """The columns of a dataset file in memory, its cells and meshes read from the file when asked.

    A sample's cells lie in one run of each axis's row, so reading it unpacks as many chunks as there
    are axes: about a quarter of a millisecond for 1,000 cells, in any order, with no cache that
    grows.  HDF5 is called by one thread at a time (h5py sees to that) and lets go of Python's lock
    while it unpacks.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.file = open_file(path)
        attributes = self.file.attrs
        self.spatial_size: tuple[int, ...] = tuple(int(side) for side in attributes["spatial_size"])
        self.render_size = int(attributes["render_size"])
        self.fill = bool(attributes.get("fill", False))
        self.up_axis = str(attributes.get("up_axis", "z"))
        self.classes = read_classes(self.file)
        self.row_splits: np.ndarray = self.file["row_splits"][:]
        self.labels: np.ndarray = self.file["labels"][:].astype(np.int64)
        self.split = np.char.decode(self.file["split"][:], "utf-8")
        self.object: np.ndarray = self.file["object"][:].astype(np.int64)
        self.pose: np.ndarray = self.file["pose"][:].astype(np.int64)
        self._coordinates = self.file["coordinates"]
        self._features = self.file["features"] if "features" in self.file else None
        self.has_features = self._features is not None
        self.has_meshes = "meshes" in self.file
        self.channels = 1 if self._features is None else int(self._features.shape[1])

    @cached_property
    def names(self) -> np.ndarray:
        return np.char.decode(self.file["names"][:], "utf-8")

    @cached_property
    def digest(self) -> str:
        """sha256 of all but the cells, features and meshes, of which it sees the counts."""
        return arrays_digest({
            "spatial_size": self.spatial_size, "render_size": self.render_size, "fill": self.fill,
            "classes": np.array(self.classes, np.str_), "row_splits": self.row_splits, "labels": self.labels,
            "split": self.split, "names": self.names, "object": self.object, "pose": self.pose,
            "has_features": self.has_features, "has_meshes": self.has_meshes})

    @cached_property
    def _mesh_splits(self) -> tuple[np.ndarray, np.ndarray]:
        return self.file["meshes/vertex_splits"][:], self.file["meshes/face_splits"][:]

    def coordinates(self, row: int) -> np.ndarray:
        """(n, D) int32, sorted."""
        start, stop = self.row_splits[row:row + 2]
        return np.ascontiguousarray(self._coordinates[:, start:stop].T, dtype=np.int32)

    def features(self, row: int) -> np.ndarray | None:
        """(n, C) float32, or None where the file has none (one channel of ones)."""
        if self._features is None:
            return None
        start, stop = self.row_splits[row:row + 2]
        return self._features[start:stop]

    def mesh(self, row: int) -> Mesh | None:
        if not self.has_meshes:
            return None
        from sparsenet.shapes import Mesh

        vertex, face = self._mesh_splits
        return Mesh(self.file["meshes/vertices"][vertex[row]:vertex[row + 1]],
                    self.file["meshes/faces"][face[row]:face[row + 1]])

    @cached_property
    def kept_meshes(self) -> MeshStore[Mesh]:
        """Meshes by row, in the host's memory: for reading only."""
        return MeshStore(self.mesh, MOST_BYTES["cpu"])

    @cached_property
    def kept_on_gpu(self) -> MeshStore[MeshBatch]:
        """Meshes by row, in the memory of the GPU: each a batch of one."""
        from sparsenet.shapes import MeshBatch

        return MeshStore(lambda row: MeshBatch([self.kept_meshes[row]]).to("cuda"), MOST_BYTES["cuda"], shared)

    def close(self) -> None:
        self.file.close()
