"""The dataset file: what is in it, and how it is checked when opened.

    attributes  format "sparsenet-voxels", version, spatial_size (D,), render_size, fill, classes (K,) text,
                up_axis "y", "z" or "auto" (by format): how mesh files were turned upright; absent: "z", not at all
    coordinates (D, total) smallest unsigned type     the cells of sample i are the columns
    row_splits  (S+1,) int64                          row_splits[i] to row_splits[i+1]
    features    (total, C) float32                    absent: one channel of ones
    labels      (S,) int32                            -1: not known
    split, names (S,) text of fixed width, UTF-8
    object, pose (S,) int32                           samples of one object share `object`
    meshes/vertices (., 3) float64, meshes/vertex_splits (S+1,) int64     absent: no meshes kept
    meshes/faces    (., 3) int32,   meshes/face_splits   (S+1,) int64

Cells are in row-major order and distinct.  Coordinates lie one axis a row in chunks of (1, 65536):
sorted cells make long runs there, which gzip turns into about a tenth of a byte each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.files import open_hdf5

FORMAT = "sparsenet-voxels"
VERSION = 1
CHUNK = 65536
MAX_CLASSES = 4000  # an HDF5 attribute holds 64 kB, a text in it takes 16 bytes
# Level 6 packs voxels into three quarters of level 4's bytes at twice its time, which is still
# several times faster than making the voxels; level 9 costs ten times that for another tenth.
PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 6, "shuffle": True}
PACKED_MESHES: dict[str, Any] = {**PACKED, "compression_opts": 2}  # higher levels gain 2% and take twice as long
UP_AXES = ("auto", "y", "z")
FLAT = ("labels", "split", "names", "object", "pose")


def coordinate_dtype(spatial_size: Sequence[int]) -> np.dtype:
    """The smallest unsigned type that holds every coordinate of the grid."""
    return np.min_scalar_type(max(spatial_size) - 1)


def text_array(strings: Sequence[str]) -> np.ndarray:
    """(S,) fixed-width UTF-8 bytes, as HDF5 packs them well."""
    import h5py

    encoded = [string.encode("utf-8") for string in strings]
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))


def write_attributes(file: Any, spatial_size: Sequence[int], render_size: int, fill: bool,
                     classes: Sequence[str], up_axis: str | None = None) -> None:
    import h5py

    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["spatial_size"] = np.array(spatial_size, np.int64)
    file.attrs["render_size"] = int(render_size)
    file.attrs["fill"] = bool(fill)
    if up_axis is not None:
        file.attrs["up_axis"] = up_axis
    if len(classes) > MAX_CLASSES:
        raise ValueError(f"SparseDataset.create: {len(classes)} classes, at most {MAX_CLASSES} fit the file's "
                         "attribute: merge classes")
    file.attrs.create("classes", list(classes), shape=(len(classes),), dtype=h5py.string_dtype("utf-8"))


def open_file(path: str | os.PathLike) -> Any:
    """The open h5py.File, its layout checked.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is not HDF5, or damaged, of another format, of a newer version, or contradicts
        itself.
    """
    path = Path(path)
    try:
        file = open_hdf5(path, {FORMAT: VERSION}, rdcc_nbytes=4 << 20)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"SparseDataset.open: {error} (tools/make_dataset.py makes one)") from error
    try:
        _check(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _check(file: Any, path: Path) -> None:
    try:
        _check_contents(file)
    except (ValueError, KeyError, OSError) as error:
        reason = error.args[0] if error.args else error
        raise ValueError(f"SparseDataset.open: {path} is damaged: {reason}: make it again") from None


def _check_contents(file: Any) -> None:
    for name in ("spatial_size", "render_size", "classes"):
        if name not in file.attrs:
            raise ValueError(f"attribute {name} is missing")
    if file.attrs.get("up_axis", "z") not in UP_AXES:
        raise ValueError(f"attribute up_axis is {file.attrs['up_axis']!r}, expected {', '.join(UP_AXES)}")
    for name in ("coordinates", "row_splits", *FLAT):
        if name not in file:
            raise ValueError(f"{name} is missing")
    samples = len(file["row_splits"]) - 1
    dimension = len(file.attrs["spatial_size"])
    coordinates = file["coordinates"]
    if coordinates.ndim != 2 or coordinates.shape[0] != dimension or coordinates.dtype.kind != "u":
        raise ValueError(f"coordinates are {coordinates.dtype} {coordinates.shape}, expected unsigned "
                         f"({dimension}, total)")
    _check_splits(file, "row_splits", samples, coordinates.shape[1])
    for name in FLAT:
        if file[name].shape != (samples,):
            raise ValueError(f"{name} has shape {file[name].shape}, expected ({samples},)")
    if "features" in file and (file["features"].ndim != 2 or file["features"].shape[0] != coordinates.shape[1]):
        raise ValueError(f"features have shape {file['features'].shape}, expected ({coordinates.shape[1]}, C)")
    labels, classes = file["labels"][:], read_classes(file)
    if labels.size and not (-1 <= labels.min() and labels.max() < len(classes)):
        raise ValueError(f"a label is outside -1 to {len(classes) - 1}")
    if "meshes" in file:
        for splits, values in (("vertex_splits", "vertices"), ("face_splits", "faces")):
            if file[f"meshes/{values}"].shape[1:] != (3,):
                raise ValueError(f"meshes/{values} has shape {file[f'meshes/{values}'].shape}, expected (n, 3)")
            _check_splits(file, f"meshes/{splits}", samples, len(file[f"meshes/{values}"]))


def _check_splits(file: Any, name: str, samples: int, total: int) -> None:
    splits = file[name][:]
    if splits.shape != (samples + 1,) or splits[0] != 0 or splits[-1] != total or (np.diff(splits) < 0).any():
        raise ValueError(f"{name} does not go from 0 to {total} in {samples} steps")


def read_classes(file: Any) -> list[str]:
    """The class names.  Raises ValueError where the attribute holds no list of text."""
    classes = np.asarray(file.attrs["classes"]).tolist()
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("attribute classes holds no list of text")
    return classes
