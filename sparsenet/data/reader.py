"""Reads the samples of an open dataset file, from any thread."""

from __future__ import annotations

import os
import reprlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.data.layout import open_file
from sparsenet.data.mesh_store import MAX_BYTES, MeshStore
from sparsenet.data.sample import SampleError
from sparsenet.files import arrays_digest
from sparsenet.hdf5 import UNREADABLE

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh, MeshBatch


class DatasetReader:
    """The columns of a dataset file in memory; its cells and meshes are read from the file on demand.

    A sample's cells are one run in each axis's row, so reading them decompresses about one chunk per
    axis: a quarter of a millisecond for 1,000 cells, in any order, without a growing cache.  h5py lets
    one thread at a time call HDF5, which releases the GIL while decompressing.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.file, columns = open_file(path)
        self.spatial_size, self.render_size, self.fill = columns.spatial_size, columns.render_size, columns.fill
        self.up_axis = columns.up_axis
        self.classes, self.labels, self.row_splits = columns.classes, columns.labels, columns.row_splits
        self.split, self.names, self.object, self.pose = columns.split, columns.names, columns.object, columns.pose
        self._mesh_splits = columns.mesh_splits
        self.part_classes = columns.part_classes or []
        self.has_site_labels, self.has_face_labels = columns.part_classes is not None, columns.has_face_labels
        keys = ("coordinates", "features", "site_labels", "meshes/vertices", "meshes/faces", "meshes/face_labels")
        self._datasets = {key: self.file[key] for key in keys if key in self.file}
        self.has_features, self.has_meshes = columns.channels is not None, columns.mesh_splits is not None
        self.channels = 1 if columns.channels is None else columns.channels

    @cached_property
    def digest(self) -> str:
        """sha256 of everything except cells, features, labels of sites and meshes, of which only the counts are in."""
        parts = {"part_classes": np.array(self.part_classes, np.str_)} if self.has_site_labels else {}
        return arrays_digest({
            "spatial_size": self.spatial_size, "render_size": self.render_size, "fill": self.fill,
            "classes": np.array(self.classes, np.str_), "row_splits": self.row_splits, "labels": self.labels,
            "split": self.split, "names": self.names, "object": self.object, "pose": self.pose,
            "has_features": self.has_features, "has_meshes": self.has_meshes, **parts})

    def coordinates(self, row: int) -> np.ndarray:
        """(n, D) int32, sorted.  Raises SampleError if a cell is outside the grid or out of order."""
        start, stop = self.row_splits[row:row + 2]
        stored = self._read("coordinates", np.s_[:, start:stop], row)
        keys = np.zeros(stop - start, np.int64)
        for column, side in zip(stored, self.spatial_size, strict=True):
            if column.size and column.max() >= side:
                cell = stored[:, np.argmax(column >= side)].tolist()
                raise self._wrong(row, f"its cell {cell} is outside the grid {self.spatial_size}")
            keys *= side
            keys += column.astype(np.int64)
        if not (keys[1:] > keys[:-1]).all():
            cell = stored[:, 1 + np.argmax(keys[1:] <= keys[:-1])].tolist()
            raise self._wrong(row, f"its cell {cell} is out of order, or occurs twice")
        return np.ascontiguousarray(stored.T, dtype=np.int32)

    def features(self, row: int) -> np.ndarray | None:
        """(n, C) float32, or None if none are stored (one channel of ones).  Raises SampleError if not finite."""
        if not self.has_features:
            return None
        start, stop = self.row_splits[row:row + 2]
        with np.errstate(over="ignore"):
            features = self._read("features", np.s_[start:stop], row).astype(np.float32, copy=False)
        if not np.isfinite(features).all():
            raise self._wrong(row, "its features contain a value that is not finite in float32")
        return features

    def site_labels(self, row: int) -> np.ndarray | None:
        """(n,) int64, or None if none are stored.  Raises SampleError if one is no part class, nor -1."""
        if not self.has_site_labels:
            return None
        return self._labels("site_labels", *self.row_splits[row:row + 2], row)

    def _labels(self, key: str, start: int, stop: int, row: int) -> np.ndarray:
        labels, parts = self._read(key, np.s_[start:stop], row), len(self.part_classes)
        if labels.size and not (-1 <= labels.min() and labels.max() < parts):
            wrong = labels[np.argmax((labels < -1) | (labels >= parts))]
            raise self._wrong(row, f"its {key} contain {wrong}, expected -1 to {parts - 1}")
        return labels.astype(np.int64)

    def mesh(self, row: int) -> Mesh | None:
        """The mesh, or None if none are stored.  Raises SampleError if the mesh is unusable."""
        if self._mesh_splits is None:
            return None
        from sparsenet.shapes import Mesh, MeshError

        vertex, face = (splits[row:row + 2] for splits in self._mesh_splits)
        vertices = self._read("meshes/vertices", np.s_[vertex[0]:vertex[1]], row)
        faces = self._read("meshes/faces", np.s_[face[0]:face[1]], row)
        labels = None
        if self.has_site_labels and self.has_face_labels:
            labels = self._labels("meshes/face_labels", *face, row)
        try:
            return Mesh(vertices, faces, labels)
        except MeshError as error:
            raise self._wrong(row, f"its mesh cannot be used: {error}") from error

    def check_open(self) -> None:
        """Raise ValueError if the file was closed."""
        if not self.file:
            raise ValueError(f"SparseDataset: {self.path} is closed: open it again with SparseDataset.open")

    def _read(self, key: str, part: Any, row: int) -> np.ndarray:
        self.check_open()
        try:
            return self._datasets[key][part]
        except UNREADABLE as error:
            raise self._wrong(row, f"its {key} cannot be read ({error})") from error

    def _wrong(self, row: int, problem: str) -> SampleError:
        name = reprlib.repr(str(self.names[row]))
        return SampleError(f"{self.path}, row {row} ({name}): {problem}: the file is damaged, make it again")

    @cached_property
    def kept_meshes(self) -> MeshStore[Mesh]:
        """Meshes by row, cached in host memory; read-only."""
        return MeshStore(self.mesh, MAX_BYTES["cpu"])

    @cached_property
    def kept_on_gpu(self) -> MeshStore[MeshBatch]:
        """Meshes by row, each as a batch of one, cached in GPU memory."""
        from sparsenet.kernels.cuda.streams import shared
        from sparsenet.shapes import MeshBatch

        return MeshStore(lambda row: MeshBatch([self.kept_meshes[row]]).to("cuda"), MAX_BYTES["cuda"], shared)

    def close(self) -> None:
        self.file.close()
