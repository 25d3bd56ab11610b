"""Writes a dataset file sample by sample: to a temporary file, renamed once complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import Any

import numpy as np

from sparsenet.data.layout import (
    CHUNK,
    MAX_NUMBER,
    MAX_SIDE,
    PACKED,
    PACKED_MESHES,
    UP_AXES,
    coordinate_dtype,
    label_dtype,
    text_array,
    write_attributes,
    wrong_classes,
    wrong_sides,
)
from sparsenet.data.sample import Sample, canonical
from sparsenet.files import USER_BLOCK, replacing, seal
from sparsenet.hdf5_output import Hdf5Output


def write_dataset(path: str | os.PathLike, samples: Iterable[Sample], spatial_size: Sequence[int],
                  render_size: int, classes: Sequence[str], fill: bool, up_axis: str | None = None,
                  final_splits: Callable[[], Sequence[str]] | None = None, part_classes: Sequence[str] = (),
                  record: Callable[[], str] | None = None) -> None:
    """Write all samples to `path`; see `SparseDataset.create`.

    final_splits : called after the last sample, returns the split of each; default: as the samples say
    record : called then, returns the record of a part (`data.parts`)
    """
    spatial_size = _checked_size(spatial_size)
    for prefix, names in (("", classes), ("part_", part_classes)):
        if problem := wrong_classes(names):
            raise ValueError(f"SparseDataset.create: {prefix}{problem}")
        _check_text(f"SparseDataset.create: a {prefix}class", "".join(names))
    if up_axis is not None and up_axis not in UP_AXES:
        raise ValueError(f"SparseDataset.create: up_axis is {up_axis!r}, expected {', '.join(UP_AXES)}")
    if isinstance(samples, Sample) or not isinstance(samples, Iterable):
        raise TypeError(f"SparseDataset.create: samples are a {type(samples).__name__}, expected a list or an iterator "
                        "of Samples")
    render_size = _whole("SparseDataset.create: render_size", render_size, 1, MAX_SIDE)
    with replacing(path) as beside:
        with Hdf5Output(beside, userblock_size=USER_BLOCK) as output:
            with output.writing():
                write_attributes(output.file, spatial_size, render_size, fill, classes, up_axis, part_classes)
                writer = _Writer(output.file, spatial_size, len(classes), len(part_classes))
            for number, sample in enumerate(samples):
                if not isinstance(sample, Sample):
                    raise TypeError(f"SparseDataset.create: sample {number} is a {type(sample).__name__}, expected a "
                                    "Sample: Sample(coordinates, label, name)")
                with output.writing(), _named(number, sample):
                    writer.add(sample)
            if final_splits is not None:
                writer.splits = list(final_splits())
            with output.writing():
                writer.finish()
                if record is not None:
                    output.file.create_dataset("part", data=np.frombuffer(record().encode(), np.uint8), **PACKED)
        seal(beside)


@contextmanager
def _named(number: int, sample: Sample) -> Iterator[None]:
    """A context that adds the number and name of a sample to the errors raised in it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"SparseDataset.create: sample {number} ({sample.name!r}): {error}") from error


class _Writer:
    def __init__(self, file: Any, spatial_size: tuple[int, ...], classes: int, parts: int):
        self.file = file
        self.spatial_size = spatial_size
        self.classes = classes
        self.parts = parts
        dtype = coordinate_dtype(spatial_size)
        self.coordinates = _Stream(file, "coordinates", dtype, len(spatial_size), (1, CHUNK), by_column=True)
        self.features: _Stream | None = None
        self.vertices: _Stream | None = None
        self.faces: _Stream | None = None
        self.face_labels: _Stream | None = None
        self.site_labels = _Stream(file, "site_labels", label_dtype(parts), None, (CHUNK,)) if parts else None
        self.row_splits, self.vertex_splits, self.face_splits = [0], [0], [0]
        self.labels: list[int] = []
        self.splits: list[str] = []
        self.names: list[str] = []
        self.objects: list[int] = []
        self.poses: list[int] = []
        self.seen: set[tuple[int, int]] = set()

    def add(self, sample: Sample) -> None:
        if (sample.site_labels is None) != (self.site_labels is None):
            raise ValueError("it has no site_labels, and the dataset has part_classes: label each cell, -1 if its part "
                             "is unknown" if sample.site_labels is None else
                             "it has site_labels, and the dataset no part_classes: name the parts")
        coordinates, features, site_labels = canonical(sample.coordinates, sample.features, sample.site_labels,
                                                       self.spatial_size, self.parts)
        label = _whole("label", sample.label, -1, self.classes - 1, ", the index of its class, or -1 if unknown")
        number = len(self.labels) if sample.object is None else _whole("object", sample.object, 0, MAX_NUMBER)
        pose = _whole("pose", sample.pose, 0, MAX_NUMBER)
        if (number, pose) in self.seen:
            raise ValueError(f"object {number} has pose {pose} twice: number the poses of an object 0, 1, ...")
        _check_text("name", sample.name)
        _check_text("split", sample.split)
        _check_mesh(sample.mesh, self.parts)
        self._open_optional(sample, features)
        self.seen.add((number, pose))
        self.coordinates.append(coordinates.T)
        self.row_splits.append(self.row_splits[-1] + len(coordinates))
        if self.features is not None:
            self.features.append(features)
        if self.site_labels is not None:
            self.site_labels.append(site_labels)
        if self.vertices is not None and self.faces is not None:
            self.vertices.append(np.asarray(sample.mesh.vertices))
            self.faces.append(np.asarray(sample.mesh.faces))
            self.vertex_splits.append(self.vertex_splits[-1] + len(sample.mesh.vertices))
            self.face_splits.append(self.face_splits[-1] + len(sample.mesh.faces))
            if self.face_labels is not None:
                self.face_labels.append(sample.mesh.face_labels)
        self.labels.append(label)
        self.splits.append(sample.split)
        self.names.append(sample.name)
        self.objects.append(number)
        self.poses.append(pose)

    def _open_optional(self, sample: Sample, features: np.ndarray | None) -> None:
        """The first sample determines whether features and meshes are stored; the others must agree."""
        if not self.labels:
            if features is not None:
                width = features.shape[1]
                self.features = _Stream(self.file, "features", np.dtype(np.float32), width,
                                        (max(1, CHUNK // max(width, 1)), max(width, 1)))
            if sample.mesh is not None:
                chunks = (CHUNK // 16, 3)
                self.vertices = _Stream(self.file, "meshes/vertices", np.dtype(np.float64), 3, chunks, PACKED_MESHES)
                self.faces = _Stream(self.file, "meshes/faces", np.dtype(np.int32), 3, chunks, PACKED_MESHES)
                if self.parts and sample.mesh.face_labels is not None:
                    self.face_labels = _Stream(self.file, "meshes/face_labels", label_dtype(self.parts), None, (CHUNK,),
                                               PACKED_MESHES)
        if (features is None) != (self.features is None):
            raise ValueError("some samples have features and others do not: give features to all or none")
        if features is not None and self.features is not None and features.shape[1] != self.features.width:
            raise ValueError(f"features have {features.shape[1]} channels, earlier samples {self.features.width}")
        if (sample.mesh is None) != (self.vertices is None):
            raise ValueError("some samples have a mesh and others do not: give meshes to all or none")
        if self.parts and sample.mesh is not None and (
                (sample.mesh.face_labels is None) != (self.face_labels is None)):
            raise ValueError("some meshes have face labels and others do not: give them to all or none")

    def finish(self) -> None:
        self.coordinates.flush()
        write = self._write
        write("row_splits", np.array(self.row_splits, np.int64))
        write("labels", np.array(self.labels, np.int32))
        write("split", text_array(self.splits))
        write("names", text_array(self.names))
        write("object", np.array(self.objects, np.int32))
        write("pose", np.array(self.poses, np.int32))
        for stream in (self.features, self.site_labels, self.vertices, self.faces, self.face_labels):
            if stream is not None:
                stream.flush()
        if self.vertices is not None and self.faces is not None:
            write("meshes/vertex_splits", np.array(self.vertex_splits, np.int64))
            write("meshes/face_splits", np.array(self.face_splits, np.int64))

    def _write(self, name: str, values: np.ndarray) -> None:
        packed = PACKED if values.size else {}
        self.file.create_dataset(name, data=values, **packed)


class _Stream:
    """A growing dataset of the file; rows are collected until they fill whole chunks.

    width : numbers in a row; None: one, in a dataset of one axis
    """

    def __init__(self, file: Any, name: str, dtype: np.dtype, width: int | None, chunks: tuple[int, ...],
                 packed: dict[str, Any] = PACKED, by_column: bool = False):
        self.by_column = by_column
        self.axis = 1 if by_column else 0
        self.width = width
        self.chunk = chunks[self.axis]
        shape: tuple = (width, 0) if by_column else (0,) if width is None else (0, width)
        limit: tuple = (width, None) if by_column else (None, width)[:len(shape)]
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
    try:
        size = tuple(index(side) for side in spatial_size)
    except TypeError:
        raise TypeError(f"SparseDataset.create: spatial_size is {spatial_size!r}, expected one whole number per "
                        "dimension, such as (40, 40, 40)") from None
    if problem := wrong_sides(size):
        raise ValueError(f"SparseDataset.create: {problem}")
    return size


def _whole(name: str, value: Any, low: int, high: int, hint: str = "") -> int:
    """The value as an int from low to high.  Bools and floats are refused, even integral ones."""
    try:
        number = None if isinstance(value, bool | np.bool_) else index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} is {value!r}, expected a whole number, {low} to {high}{hint}")
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}, expected {low} to {high}{hint}")
    return number


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} is {text!r}, expected a text")
    if "\0" in text:
        raise ValueError(f"{name} contains a NUL character: remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is {text!r}, which is not valid Unicode ({error.reason}): rename it") from None


def _check_mesh(mesh: Any, parts: int) -> None:
    from sparsenet.shapes import Mesh

    if mesh is not None and not isinstance(mesh, Mesh):
        raise TypeError(f"mesh is a {type(mesh).__name__}, expected a sparsenet.Mesh or None")
    if parts and mesh is not None and mesh.face_labels is not None and mesh.face_labels.max() >= parts:
        raise ValueError(f"a face of its mesh has the label {mesh.face_labels.max()}, expected at most {parts - 1}, "
                         "the index of its part class")
