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
    mesh : the Mesh (vertices, faces) that was voxelized, or None
    """

    coordinates: np.ndarray
    label: int = -1
    name: str = ""
    split: str = "train"
    object: int | None = None
    pose: int = 0
    features: np.ndarray | None = None
    mesh: Mesh | None = None

    def __len__(self) -> int:
        return len(self.coordinates)


def canonical(coordinates: Any, features: Any, spatial_size: tuple[int, ...]) -> tuple[np.ndarray, Any]:
    """Coordinates (n, D) and features (n, C) or None in row-major order of the cells.

    Raises
    ------
    TypeError : coordinates are not integers, or features not numbers.
    ValueError : wrong shapes, a cell outside the grid or twice, a feature that is not finite in float32.
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
    if not len(coordinates):
        return coordinates, features
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
        same = np.flatnonzero(keys[1:] == keys[:-1])
        if same.size:
            raise ValueError(f"cell {coordinates[same[0]].tolist()} occurs twice: give each cell once")
    return coordinates, features
