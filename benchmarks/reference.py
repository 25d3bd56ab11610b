"""Plain references in float64 and integers: what a pass must give before it is timed."""

from __future__ import annotations

import numpy as np

from sparsenet.sparse import Geometry

TOLERANCE = 1e-4  # of float32 sums over some thousand products


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected magnitude; infinite where the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(actual - expected).max()) / scale


def check(what: str, actual: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Raises RuntimeError where the error is above the tolerance, or not a number."""
    error = relative_error(actual, expected)
    if not error <= tolerance:
        raise RuntimeError(f"benchmark: {what} differs from the reference by {error:.2g} of its largest value, "
                           f"expected at most {tolerance:g}: nothing was timed")


class Convolution:
    """A sparse convolution as a loop over kernel offsets, looked up in a dense grid of row numbers.

    coordinates (N, 4) int, features (N, C_in), weight (K, C_in, C_out); outputs (M, 4) as the package
    orders them.  `forward`, `input_gradient` and `weight_gradient` are float64.
    """

    def __init__(self, coordinates: np.ndarray, grid: tuple[int, ...], geometry: Geometry):
        self.coordinates, self.geometry = coordinates, geometry
        self.output_size = geometry.output_size(grid)
        stride, padding, dilation = (np.array(a) for a in (geometry.stride, geometry.padding, geometry.dilation))
        outputs = set()
        joined = []
        for offset in geometry.kernel_offsets:
            reach = coordinates[:, 1:] + padding - offset * dilation
            cell = reach // stride
            hit = ((reach % stride == 0) & (cell >= 0) & (cell < self.output_size)).all(axis=1)
            rows = np.flatnonzero(hit)
            keys = np.ravel_multi_index((coordinates[rows, 0], *cell[rows].T), self._shape())
            joined.append((rows, keys))
            outputs.update(keys.tolist())
        if geometry.submanifold:
            outputs = set(np.ravel_multi_index(tuple(coordinates.T), self._shape()).tolist())
        self.output_keys = np.array(sorted(outputs), np.int64)
        row_of = np.full(np.prod(self._shape()), -1, np.int64)
        row_of[self.output_keys] = np.arange(self.output_keys.size)
        self.pairs = [(rows[row_of[keys] >= 0], row_of[keys][row_of[keys] >= 0]) for rows, keys in joined]

    def _shape(self) -> tuple[int, ...]:
        return (int(self.coordinates[:, 0].max()) + 1, *self.output_size)

    @property
    def output_coordinates(self) -> np.ndarray:
        """(M, 4)."""
        return np.stack(np.unravel_index(self.output_keys, self._shape()), axis=1)

    @property
    def pair_count(self) -> int:
        return sum(rows.size for rows, _ in self.pairs)

    def forward(self, features: np.ndarray, weight: np.ndarray) -> np.ndarray:
        out = np.zeros((self.output_keys.size, weight.shape[2]))
        for (inputs, outputs), matrix in zip(self.pairs, weight.astype(np.float64), strict=True):
            out[outputs] += features[inputs].astype(np.float64) @ matrix  # an offset meets an output once
        return out

    def input_gradient(self, gradient: np.ndarray, weight: np.ndarray) -> np.ndarray:
        out = np.zeros((self.coordinates.shape[0], weight.shape[1]))
        for (inputs, outputs), matrix in zip(self.pairs, weight.astype(np.float64), strict=True):
            out[inputs] += gradient[outputs].astype(np.float64) @ matrix.T
        return out

    def weight_gradient(self, features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        return np.stack([features[inputs].astype(np.float64).T @ gradient[outputs].astype(np.float64)
                         for inputs, outputs in self.pairs])


def max_pool(features: np.ndarray, background: np.ndarray, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (M, C) and the first offset that attains them, by a loop over the offsets."""
    table = np.vstack([features, background[None]])  # row -1 is the background
    values = table[neighbours[:, 0]]
    chosen = np.zeros(values.shape, np.int16)
    for k in range(1, neighbours.shape[1]):
        rows = table[neighbours[:, k]]
        larger = rows > values
        values[larger] = rows[larger]
        chosen[larger] = k
    return values, chosen


def max_pool_backward(gradient: np.ndarray, chosen: np.ndarray, neighbours: np.ndarray, inputs: int) -> np.ndarray:
    """(N, C) float64: each output's gradient at the cell that gave its value."""
    out = np.zeros((inputs + 1, gradient.shape[1]))
    rows = np.take_along_axis(neighbours, chosen.astype(np.int64), axis=1)
    np.add.at(out, (rows, np.arange(gradient.shape[1])), gradient)  # row -1: the background
    return out[:inputs]


def dense_descriptor(coordinates: np.ndarray, field: int, weights: list[np.ndarray], biases: list[np.ndarray],
                     slope: float) -> np.ndarray:
    """(C,) float32 of S3DCNN for one sample, on the dense grid (field, field, field, C): each convolution
    2/1 and pooling 3/2 as a loop over its offsets."""
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


def cells_of_triangles(vertices: np.ndarray, faces: np.ndarray, size: int, steps: int = 2048) -> np.ndarray:
    """(n, 3) cells of a size^3 grid that a triangle meets, by the 13 axes of the separating-axis
    theorem on every cell: vertices (V, 3) int64 on the lattice of `steps` to a cell."""
    half = steps // 2
    centres = (np.indices((size,) * 3).reshape(3, -1).T * 2 + 1) * half
    axes_of_grid = np.eye(3, dtype=np.int64)
    met = np.zeros(len(centres), bool)
    for corners in vertices[faces]:
        edges = np.roll(corners, -1, axis=0) - corners
        axes = [*axes_of_grid, np.cross(edges[0], edges[1])]
        axes += [np.cross(edge, axis) for edge in edges for axis in axes_of_grid]
        meets = np.ones(len(centres), bool)
        for axis in axes:
            reach = half * np.abs(axis).sum()
            along, at = centres @ axis, corners @ axis
            meets &= (at.min() <= along + reach) & (at.max() >= along - reach)
        met |= meets
    return np.argwhere(met.reshape((size,) * 3)).astype(np.int32)
