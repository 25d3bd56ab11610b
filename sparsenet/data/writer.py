"""Writes a dataset file sample by sample: beside the old one, renamed when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sparsenet.data.layout import CHUNK, PACKED, PACKED_MESHES, coordinate_dtype, text_array, write_attributes
from sparsenet.data.sample import Sample, canonical
from sparsenet.files import replacing
from sparsenet.hdf5_output import Hdf5Output


def write_dataset(path: str | os.PathLike, samples: Iterable[Sample], spatial_size: Sequence[int],
                  render_size: int, classes: Sequence[str], fill: bool, up_axis: str | None = None) -> None:
    """Write all samples to `path`; see `SparseDataset.create`."""
    spatial_size = _checked_size(spatial_size)
    if len(set(classes)) != len(classes):
        raise ValueError(f"SparseDataset.create: classes are {list(classes)}: expected distinct names")
    if int(render_size) != render_size or render_size < 1:
        raise ValueError(f"SparseDataset.create: render_size is {render_size}, expected a positive whole number")
    with replacing(path) as beside, Hdf5Output(beside) as output:
        write_attributes(output.file, spatial_size, render_size, fill, classes, up_axis)
        writer = _Writer(output.file, spatial_size, len(classes))
        for sample in samples:
            output.check()
            try:
                writer.add(sample)
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"SparseDataset.create: sample {len(writer.labels)} ({sample.name!r}): "
                           f"{error}") from error
        writer.finish()


class _Writer:
    def __init__(self, file: Any, spatial_size: tuple[int, ...], classes: int):
        self.file = file
        self.spatial_size = spatial_size
        self.classes = classes
        dtype = coordinate_dtype(spatial_size)
        self.coordinates = _Stream(file, "coordinates", dtype, len(spatial_size), (1, CHUNK), by_column=True)
        self.features: _Stream | None = None
        self.vertices: _Stream | None = None
        self.faces: _Stream | None = None
        self.row_splits, self.vertex_splits, self.face_splits = [0], [0], [0]
        self.labels: list[int] = []
        self.splits: list[str] = []
        self.names: list[str] = []
        self.objects: list[int] = []
        self.poses: list[int] = []
        self.seen: set[tuple[int, int]] = set()

    def add(self, sample: Sample) -> None:
        coordinates, features = canonical(sample.coordinates, sample.features, self.spatial_size)
        if not -1 <= sample.label < self.classes:
            raise ValueError(f"label is {sample.label}, expected 0 to {self.classes - 1}, or -1 for unknown")
        number = len(self.labels) if sample.object is None else int(sample.object)
        if not 0 <= number < 2**31 or not 0 <= sample.pose < 2**31:
            raise ValueError(f"object {number}, pose {sample.pose}: expected 0 to {2**31 - 1}")
        if (number, sample.pose) in self.seen:
            raise ValueError(f"object {number} has pose {sample.pose} twice: number the poses of an object 0, 1, ...")
        for text in (sample.name, sample.split):
            if "\0" in text:
                raise ValueError("name or split holds a NUL character: remove it")
            text.encode()  # a UnicodeEncodeError now, and not when all samples are done
        self._open_optional(sample, features)
        self.seen.add((number, sample.pose))
        self.coordinates.append(coordinates.T)
        self.row_splits.append(self.row_splits[-1] + len(coordinates))
        if self.features is not None:
            self.features.append(features)
        if self.vertices is not None and self.faces is not None:
            self.vertices.append(np.asarray(sample.mesh.vertices))
            self.faces.append(np.asarray(sample.mesh.faces))
            self.vertex_splits.append(self.vertex_splits[-1] + len(sample.mesh.vertices))
            self.face_splits.append(self.face_splits[-1] + len(sample.mesh.faces))
        self.labels.append(int(sample.label))
        self.splits.append(sample.split)
        self.names.append(sample.name)
        self.objects.append(number)
        self.poses.append(int(sample.pose))

    def _open_optional(self, sample: Sample, features: np.ndarray | None) -> None:
        """The first sample says whether there are features and meshes; the others must agree."""
        if not self.labels:
            if features is not None:
                width = features.shape[1]
                self.features = _Stream(self.file, "features", np.dtype(np.float32), width,
                                        (max(1, CHUNK // max(width, 1)), max(width, 1)))
            if sample.mesh is not None:
                chunks = (CHUNK // 16, 3)
                self.vertices = _Stream(self.file, "meshes/vertices", np.dtype(np.float64), 3, chunks, PACKED_MESHES)
                self.faces = _Stream(self.file, "meshes/faces", np.dtype(np.int32), 3, chunks, PACKED_MESHES)
        if (features is None) != (self.features is None):
            raise ValueError("some samples have features and some have none: give all or none")
        if features is not None and self.features is not None and features.shape[1] != self.features.width:
            raise ValueError(f"features have {features.shape[1]} channels, earlier samples {self.features.width}")
        if (sample.mesh is None) != (self.vertices is None):
            raise ValueError("some samples have a mesh and some have none: give all or none")

    def finish(self) -> None:
        self.coordinates.flush()
        write = self._write
        write("row_splits", np.array(self.row_splits, np.int64))
        write("labels", np.array(self.labels, np.int32))
        write("split", text_array(self.splits))
        write("names", text_array(self.names))
        write("object", np.array(self.objects, np.int32))
        write("pose", np.array(self.poses, np.int32))
        if self.features is not None:
            self.features.flush()
        if self.vertices is not None and self.faces is not None:
            self.vertices.flush()
            self.faces.flush()
            write("meshes/vertex_splits", np.array(self.vertex_splits, np.int64))
            write("meshes/face_splits", np.array(self.face_splits, np.int64))

    def _write(self, name: str, values: np.ndarray) -> None:
        packed = PACKED if values.size else {}
        self.file.create_dataset(name, data=values, **packed)


class _Stream:
    """A dataset of the file that grows; rows are collected until they fill whole chunks."""

    def __init__(self, file: Any, name: str, dtype: np.dtype, width: int, chunks: tuple[int, int],
                 packed: dict[str, Any] = PACKED, by_column: bool = False):
        self.by_column = by_column
        self.axis = 1 if by_column else 0
        self.width = width
        self.chunk = chunks[self.axis]
        shape = (width, 0) if by_column else (0, width)
        limit = (width, None) if by_column else (None, width)
        self.dataset = file.create_dataset(name, shape, dtype, maxshape=limit, chunks=chunks, **packed)
        self.waiting: list[np.ndarray] = []
        self.rows = 0

    def append(self, values: np.ndarray) -> None:
        self.waiting.append(values.astype(self.dataset.dtype))
        self.rows += values.shape[self.axis]
        if self.rows >= self.chunk:
            self._write(self.rows // self.chunk * self.chunk)

    def flush(self) -> None:
        self._write(self.rows)

    def _write(self, rows: int) -> None:
        if not rows:
            return
        values = np.concatenate(self.waiting, axis=self.axis)
        start = self.dataset.shape[self.axis]
        self.dataset.resize(start + rows, axis=self.axis)
        if self.by_column:
            self.dataset[:, start:] = values[:, :rows]
            self.waiting = [values[:, rows:].copy()]
        else:
            self.dataset[start:] = values[:rows]
            self.waiting = [values[rows:].copy()]
        self.rows -= rows


def _checked_size(spatial_size: Sequence[int]) -> tuple[int, ...]:
    size = tuple(int(side) for side in spatial_size)
    if not 1 <= len(size) <= 4 or min(size) < 1:
        raise ValueError(f"SparseDataset.create: spatial_size is {size}, expected 1 to 4 positive numbers")
    return size
