"""One shape of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh


class SampleError(ValueError):
    """A sample of a dataset file is unusable; the message names the file and the sample."""


@dataclass
class Sample:
    """One shape, or one pose of it, as passed to `SparseDataset.create` and returned by `dataset[i]`.

    coordinates : (n, D) integer, the active cells of the dataset's grid; n may be 0
    label : index into the dataset's classes, or -1 if unknown
    name : name of the object, shared by its poses
    split : such as "train" or "test"
    object : number of the object; None, when creating: each sample is its own object
    pose : number of the pose within the object, from 0
    features : (n, C) float32, or None for one channel of ones
    mesh : the Mesh (vertices, faces) that was voxelized, or None; its face labels are stored, too
    site_labels : (n,) integer, the part that each cell is of, an index into the dataset's part classes, or -1 if it is
        unknown or not to be learned; or None
    """

    coordinates: np.ndarray
    label: int = -1
    name: str = ""
    split: str = "train"
    object: int | None = None
    pose: int = 0
    features: np.ndarray | None = None
    mesh: Mesh | None = None
    site_labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.coordinates)


def canonical(coordinates: Any, features: Any, site_labels: Any, spatial_size: tuple[int, ...], parts: int
              ) -> tuple[np.ndarray, Any, Any]:
    """Coordinates (n, D), features (n, C) or None and site labels (n,) or None in row-major order of the cells.

    parts : number of part classes that labels are below

    Raises
    ------
    TypeError : coordinates or labels are not integers, or features not numbers.
    ValueError : wrong shapes, a cell outside the grid or twice, a feature that is not finite in float32, a label out of
        range.
    """
    coordinates = np.asarray(coordinates)
    dimension = len(spatial_size)
    if coordinates.size == 0:
        coordinates = np.zeros((0, dimension), np.int32)
    if coordinates.ndim != 2 or coordinates.shape[1] != dimension:
        raise ValueError(f"coordinates have shape {coordinates.shape}, expected (n, {dimension})")
    if coordinates.dtype.kind not in "iu":
        raise TypeError(f"coordinates are {coordinates.dtype}, expected integers: voxelize first")
    if features is not None:
        features = np.asarray(features)
        if features.dtype.kind not in "fiub":
            raise TypeError(f"features are {features.dtype}, expected numbers")
        with np.errstate(over="ignore"):
            features = features.astype(np.float32, copy=False)
        if features.ndim != 2 or len(features) != len(coordinates) or not features.shape[1]:
            raise ValueError(f"features have shape {features.shape}, expected ({len(coordinates)}, C): "
                             "one row per cell, of one channel or more")
        if not np.isfinite(features).all():
            raise ValueError("features contain a value that is not finite in float32")
    site_labels = None if site_labels is None else _checked_labels(site_labels, len(coordinates), parts)
    if not len(coordinates):
        return coordinates, features, site_labels
    for axis, size in enumerate(spatial_size):
        column = coordinates[:, axis]
        if column.min() < 0 or column.max() >= size:
            row = int(np.flatnonzero((column < 0) | (column >= size))[0])
            raise ValueError(f"cell {coordinates[row].tolist()} is outside the grid {spatial_size}: drop "
                             "such cells or use a larger spatial_size")
    keys = np.ravel_multi_index(tuple(coordinates.T.astype(np.int64)), spatial_size)
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys, kind="stable")
        keys, coordinates = keys[order], coordinates[order]
        features = None if features is None else features[order]
        site_labels = None if site_labels is None else site_labels[order]
        same = np.flatnonzero(keys[1:] == keys[:-1])
        if same.size:
            raise ValueError(f"cell {coordinates[same[0]].tolist()} occurs twice: give each cell once")
    return coordinates, features, site_labels


def _checked_labels(labels: Any, cells: int, parts: int) -> np.ndarray:
    labels = np.asarray(labels)
    labels = labels.astype(np.int64) if labels.size == 0 else labels
    if labels.dtype.kind not in "iu":
        raise TypeError(f"site_labels are {labels.dtype}, expected integers")
    if labels.shape != (cells,):
        raise ValueError(f"site_labels have shape {labels.shape}, expected ({cells},): one for each cell")
    if labels.size and not (-1 <= labels.min() and labels.max() < parts):
        row = int(np.argmax((labels < -1) | (labels >= parts)))
        raise ValueError(f"the site label of cell {row} is {labels[row]}, expected 0 to {parts - 1}, the index of its "
                         "part class, or -1 if unknown")
    return labels
