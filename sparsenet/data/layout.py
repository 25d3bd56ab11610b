"""The layout of a dataset file, and the checks when it is opened.

    attributes  format "sparsenet-voxels", version, spatial_size (D,), render_size, fill, classes (K,) text,
                up_axis "y", "z" or "auto" (by format): up axis of the mesh files, rotated to z; absent: "z", unchanged
    coordinates (D, total) smallest unsigned type     sample i has the columns
    row_splits  (S+1,) int64                          row_splits[i] to row_splits[i+1]
    features    (total, C) float32                    absent: one channel of ones
    site_labels (total,) smallest signed type         the part that each cell is of, -1: unknown; absent: no parts
    labels      (S,) int32                            -1: unknown
    split, names (S,) text of fixed width, UTF-8
    object, pose (S,) int32                           samples of one object share `object`
    meshes/vertices (., 3) float64, meshes/vertex_splits (S+1,) int64     absent: no meshes
    meshes/faces    (., 3) int32,   meshes/face_splits   (S+1,) int64
    meshes/face_labels (.,) smallest signed type      the part that each face is of; absent: unknown

With site labels, the attribute part_classes (P,) text names the parts.
Cells are distinct and in row-major order.  A file of another program may lack the seal (see `sparsenet.files`) and
use other integer types, floating-point features of any width, and variable-length texts, which are h5py's default.
Coordinates are stored one axis per row in chunks of (1, 65536): sorted cells have long runs there, which gzip
compresses to about a tenth of a byte each.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.files import open_hdf5
from sparsenet.hdf5 import UNREADABLE, find_dataset, read_attribute, read_dataset

FORMAT = "sparsenet-voxels"
VERSION = 1
CHUNK = 65536
MAX_CLASSES = 4000  # an HDF5 attribute holds 64 kB, each text in it takes 16 bytes
# Level 6 compresses voxels to three quarters of level 4's size in twice the time, still several times
# faster than voxelizing; level 9 takes ten times as long for another tenth.
PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 6, "shuffle": True}
PACKED_MESHES: dict[str, Any] = {**PACKED, "compression_opts": 2}  # higher levels save 2% and take twice as long
UP_AXES = ("auto", "y", "z")
MAX_SIDE = 2**31 - 1  # coordinates are int32 in memory
MAX_NUMBER = 2**31 - 1  # largest number of an object or pose


def coordinate_dtype(spatial_size: Sequence[int]) -> np.dtype:
    """The smallest unsigned type that holds every coordinate of the grid."""
    return np.min_scalar_type(max(spatial_size) - 1)


def label_dtype(parts: int) -> np.dtype:
    """The smallest signed type that holds the labels of so many parts, and -1."""
    return np.min_scalar_type(-max(parts, 1))


def text_array(strings: Sequence[str]) -> np.ndarray:
    """(S,) fixed-width UTF-8 bytes, which HDF5 compresses well."""
    import h5py

    encoded = [string.encode("utf-8") for string in strings]
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))


def write_attributes(file: Any, spatial_size: Sequence[int], render_size: int, fill: bool,
                     classes: Sequence[str], up_axis: str | None = None, part_classes: Sequence[str] = ()) -> None:
    import h5py

    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["spatial_size"] = np.array(spatial_size, np.int64)
    file.attrs["render_size"] = int(render_size)
    file.attrs["fill"] = bool(fill)
    if up_axis is not None:
        file.attrs["up_axis"] = up_axis
    for name, texts in (("classes", classes), ("part_classes", part_classes)):
        if texts or name == "classes":
            file.attrs.create(name, list(texts), shape=(len(texts),), dtype=h5py.string_dtype("utf-8"))


def wrong_classes(classes: Sequence[str]) -> str:
    """The problem with a list of class names, or ""."""
    if isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray) or not all(
            isinstance(name, str) and name for name in classes):
        return f"classes are {reprlib.repr(classes)}, expected a list of non-empty texts"
    if len(set(classes)) != len(classes):
        twice = next(name for number, name in enumerate(classes) if name in classes[:number])
        return f"class {reprlib.repr(twice)} occurs twice, expected distinct names"
    if len(classes) > MAX_CLASSES:
        return f"{len(classes)} classes, at most {MAX_CLASSES} fit the file's attribute: merge classes"
    return ""


def wrong_sides(sides: Sequence[int]) -> str:
    """The problem with the sides of a grid, or ""."""
    if not 1 <= len(sides) <= 4 or min(sides) < 1 or max(sides) > MAX_SIDE:
        return f"spatial_size is {reprlib.repr(tuple(sides))}, expected 1 to 4 numbers from 1 to {MAX_SIDE}"
    if prod(sides) >= 2**63:
        return f"the grid {tuple(sides)} has 2^63 cells or more: use a smaller one"
    return ""


@dataclass
class Columns:
    """The contents of a dataset file, checked, except for cells, features and meshes.

    labels, object, pose (S,) int64;  split, names (S,) text;  row_splits (S+1,) int64
    mesh_splits : (vertex_splits, face_splits), each (S+1,) int64; None if no meshes are stored
    channels : C of the features; None if none are stored
    part_classes : names of the parts; None if no site labels are stored
    has_face_labels : whether the meshes say which parts their faces are of
    """

    spatial_size: tuple[int, ...]
    render_size: int
    fill: bool
    up_axis: str
    classes: list[str]
    row_splits: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    names: np.ndarray
    object: np.ndarray
    pose: np.ndarray
    mesh_splits: tuple[np.ndarray, np.ndarray] | None
    channels: int | None
    part_classes: list[str] | None
    has_face_labels: bool


def open_file(path: str | os.PathLike) -> tuple[Any, Columns]:
    """Open a dataset file and check its layout.  Returns the h5py.File and its columns.

    Raises
    ------
    FileNotFoundError : the file does not exist.
    ValueError : it is not HDF5, is damaged, has another format or a newer version, or contradicts
        itself.
    """
    path = Path(path)
    try:
        file = open_hdf5(path, {FORMAT: VERSION}, rdcc_nbytes=4 << 20)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"SparseDataset.open: {error} (`sparsenet make-dataset` makes one)") from error
    try:
        return file, _columns(file)
    except UNREADABLE as error:
        file.close()
        reason = error.args[0] if error.args else error
        raise ValueError(f"SparseDataset.open: {path} is damaged: {reason}: make it again") from error
    except BaseException:
        file.close()
        raise


def _columns(file: Any) -> Columns:
    sides, render_size, fill, up_axis, classes = _header(file)
    samples = len(find_dataset(file, "row_splits", "iu", (None,))) - 1
    if not 0 <= samples <= file.id.get_filesize():  # a sample takes at least one byte
        raise ValueError(f"row_splits has {samples} samples, the file has {file.id.get_filesize()} bytes")
    total = find_dataset(file, "coordinates", "u", (len(sides), None)).shape[1]
    columns = {name: find_dataset(file, name, kinds, (samples,)) for name, kinds in
               (("labels", "iu"), ("split", "T"), ("names", "T"), ("object", "iu"), ("pose", "iu"))}
    channels = find_dataset(file, "features", "f", (total, None)).shape[1] if "features" in file else None
    if channels == 0:
        raise ValueError(f"features have shape {(total, 0)}, expected one channel or more")
    part_classes = None
    if "site_labels" in file:
        find_dataset(file, "site_labels", "iu", (total,))
        part_classes = _class_names(file, "part_classes")
    mesh_splits, has_face_labels = None, False
    if "meshes" in file:
        vertices = find_dataset(file, "meshes/vertices", "f", (None, 3))
        faces = find_dataset(file, "meshes/faces", "iu", (None, 3))
        mesh_splits = (_splits(file, "meshes/vertex_splits", samples, len(vertices)),
                       _splits(file, "meshes/face_splits", samples, len(faces)))
        has_face_labels = "meshes/face_labels" in file
        if has_face_labels:
            find_dataset(file, "meshes/face_labels", "iu", (len(faces),))
    found = Columns(
        sides, render_size, fill, up_axis, classes, _splits(file, "row_splits", samples, total),
        _numbers(columns["labels"], -1, len(classes) - 1), _texts(columns["split"]), _texts(columns["names"]),
        _numbers(columns["object"], 0, MAX_NUMBER), _numbers(columns["pose"], 0, MAX_NUMBER), mesh_splits, channels,
        part_classes, has_face_labels)
    places = np.sort(found.object << 31 | found.pose)
    if (same := places[1:][places[1:] == places[:-1]]).size:
        raise ValueError(f"object {same[0] >> 31} has pose {same[0] & MAX_NUMBER} twice")
    return found


def _header(file: Any) -> tuple[tuple[int, ...], int, bool, str, list[str]]:
    """Sides, render size, fill, up axis and class names."""
    sides = np.asarray(read_attribute(file, "spatial_size"))
    if sides.ndim != 1 or sides.dtype.kind not in "iu":
        raise ValueError(f"attribute spatial_size is {sides.dtype} {sides.shape}, expected (D,) integers")
    if problem := wrong_sides(sides.tolist()):
        raise ValueError(f"attribute {problem}")
    render_size = read_attribute(file, "render_size")
    if type(render_size) is not int or not 1 <= render_size <= MAX_SIDE:
        raise ValueError(f"attribute render_size is {reprlib.repr(render_size)}, expected a whole number from 1 to "
                         f"{MAX_SIDE}")
    fill = read_attribute(file, "fill") if "fill" in file.attrs else False
    if type(fill) not in (bool, int) or fill not in (0, 1):
        raise ValueError(f"attribute fill is {reprlib.repr(fill)}, expected true or false")
    up_axis = read_attribute(file, "up_axis") if "up_axis" in file.attrs else "z"
    if not isinstance(up_axis, str) or up_axis not in UP_AXES:
        raise ValueError(f"attribute up_axis is {reprlib.repr(up_axis)}, expected {', '.join(UP_AXES)}")
    return tuple(sides.tolist()), render_size, bool(fill), up_axis, _class_names(file, "classes")


def _class_names(file: Any, name: str) -> list[str]:
    """An attribute that lists names of classes."""
    classes = read_attribute(file, name)
    if isinstance(classes, np.ndarray) and not classes.size:
        classes = []  # h5py writes an empty list as an array of numbers
    if not isinstance(classes, list):
        raise ValueError(f"attribute {name} is {reprlib.repr(classes)}, expected a list of texts")
    if problem := wrong_classes(classes):
        raise ValueError(f"attribute {name.removesuffix('classes')}{problem}")
    return classes


def _splits(file: Any, key: str, samples: int, total: int) -> np.ndarray:
    splits = _numbers(find_dataset(file, key, "iu", (samples + 1,)), 0, total)
    if splits[0] != 0 or splits[-1] != total or (np.diff(splits) < 0).any():
        raise ValueError(f"{key} does not go from 0 to {total} in {samples} steps")
    return splits


def _numbers(dataset: Any, low: int, high: int) -> np.ndarray:
    """A column of integers as int64.  Raises ValueError if one is not from low to high."""
    numbers = dataset[:]
    if numbers.size and not (low <= numbers.min() and numbers.max() <= high):
        row = int(np.argmax((numbers < low) | (numbers > high)))
        raise ValueError(f"{dataset.name.lstrip('/')} has {numbers[row]} in row {row}, expected {low} to {high}")
    return numbers.astype(np.int64)


def _texts(dataset: Any) -> np.ndarray:
    return np.array(read_dataset(dataset), np.str_)
