"""References for each pass before it is timed: the formulas of the kernels in float64, and the dense descriptor."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import REFERENCE
from sparsenet.kernels import launch
from sparsenet.sparse import ActiveSites, Geometry

TOLERANCE = 1e-4  # for float32 sums over some thousand products


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected magnitude; infinite if the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(actual - expected).max()) / scale


def check(what: str, actual: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Raise RuntimeError if the error exceeds the tolerance or is NaN."""
    error = relative_error(actual, expected)
    if not error <= tolerance:
        raise RuntimeError(f"benchmark: {what} differs from the reference by {error:.2g} of its largest value, "
                           f"expected at most {tolerance:g}: nothing was timed")


def specified(kernel: str, *arguments: Any) -> Any:
    """The result of a kernel's formula; float arrays are converted to float64."""
    wide = [array.astype(np.float64) if getattr(array, "dtype", None) == np.float32 else array for array in arguments]
    return launch(kernel, *wide, backend=REFERENCE)


class Convolution:
    """A sparse convolution computed with the formulas of its kernels, whose rulebook it is.

    coordinates (N, 4) int, features (N, C_in), weight (K, C_in, C_out); outputs (M, 4) in the package's
    order.  `forward`, `input_gradient` and `weight_gradient` are float64.
    """

    def __init__(self, coordinates: np.ndarray, grid: tuple[int, ...], geometry: Geometry):
        self.geometry = geometry
        self.output_size = geometry.output_size(grid)
        sites = ActiveSites(coordinates, grid, int(coordinates[:, 0].max()) + 1)
        given = sites.keys, sites.coordinates, sites.batch_splits
        axes = grid, self.output_size, geometry.size, geometry.stride, geometry.padding, geometry.dilation
        self.output_keys = sites.keys if geometry.submanifold else specified("output_keys", *given, None, *axes)
        self.output_coordinates = specified("site_coordinates", self.output_keys, self.output_size)
        self.neighbours = specified("neighbours", *given, self.output_keys, self.output_coordinates, None,
                                    *axes)
        self.pairs, self.pair_splits = specified("pairs", *given, self.output_keys, self, geometry.submanifold, *axes)
        self.pairs[:, 0] = sites.permutation[self.pairs[:, 0]]  # rows in the order given
        self.device, self.shape = "cpu", (len(coordinates), len(self.output_keys), geometry.volume)

    @property
    def pair_count(self) -> int:
        return len(self.pairs)

    def forward(self, features: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return specified("convolution_forward", features, weight, self, None)

    def input_gradient(self, gradient: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return specified("convolution_input_gradient", gradient, weight, self)

    def weight_gradient(self, features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        return specified("convolution_weight_gradient", features, gradient, self)


def dense_descriptor(coordinates: np.ndarray, field: int, weights: list[np.ndarray], biases: list[np.ndarray],
                     slope: float) -> np.ndarray:
    """The descriptor (C,) float32 of S3DCNN for one sample, on the dense grid (field, field, field, C), with each
    convolution 2/1 and pooling 3/2 as a loop over its offsets."""
    grid = np.zeros((field,) * 3 + (1,), np.float32)
    grid[tuple(coordinates[:, 1:].T)] = 1
    for level, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        side = grid.shape[0] - 1
        out = np.tile(bias, (side, side, side, 1))
        for offset, matrix in zip(np.ndindex(2, 2, 2), weight, strict=True):
            out += grid[tuple(slice(o, o + side) for o in offset)] @ matrix
        grid = np.where(out > 0, out, out * np.float32(slope))
        if level < len(weights) - 1:
            side = (grid.shape[0] - 3) // 2 + 1
            windows = [grid[tuple(slice(o, o + 2 * side - 1, 2) for o in offset)] for offset in np.ndindex(3, 3, 3)]
            grid = windows[0].copy()
            for window in windows[1:]:
                np.maximum(grid, window, out=grid)
    return grid.reshape(-1)
