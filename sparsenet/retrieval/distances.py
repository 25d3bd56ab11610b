"""Distances between descriptors in float64, with a tolerance for ties.

Rankings depend on ties: shapes with equal descriptors must have exactly the same distance, in any
row, and distances that differ only by rounding must count as equal.  So besides the distances of
all pairs a `Space` gives the step below which two of them count as equal.

    cosine   1 - cosine of the angle; a zero vector has cosine 0 with every vector.
             One step is 2^-46, the possible rounding error of a dot product of unit vectors.
    l2       Euclidean.  Pairs are compared by the square: |a|^2 + |b|^2 - 2ab relative to a central
             data row, or sum (a-b)^2 of the original vectors if the first form cancels more than
             ten bits.  One step is 2^-40 of the square.
"""

from __future__ import annotations

from typing import Any

import numpy as np

METRICS = ("cosine", "l2")
LARGEST = 1e150  # limit of a vector's values, so that their squares stay finite
_COSINE_STEP = 2.0**-46
_L2_STEP = 2.0**-40
_CANCELLED = 2.0**-10  # relative to |a|^2 + |b|^2; smaller squared distances are computed from a - b
_ROWS = 512  # rows subtracted at a time, so that the differences stay in cache


def check_vectors(operation: str, name: str, vectors: Any) -> np.ndarray:
    """The vectors as (S, C) float64.

    Raises
    ------
    TypeError, ValueError : not a matrix of real numbers, no column, or a value that is NaN, infinite or
        beyond LARGEST; the message names the first such row.
    """
    try:
        array = np.asarray(vectors)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{operation}: {name} do not form an array, expected (S, C): one row per shape ({error})"
                         ) from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{operation}: {name} are {type(vectors).__name__} of dtype {array.dtype}, expected an array "
                        "of real numbers")
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{operation}: {name} have shape {array.shape}, expected (S, C): one row per shape")
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite
        array = array.astype(np.float64, order="C")
    good = (np.abs(array) <= LARGEST).all(axis=1)  # False for NaN too
    if not good.all():
        raise ValueError(f"{operation}: {name} have NaN, infinite or huge (beyond {LARGEST:g}) numbers in "
                         f"{np.count_nonzero(~good)} of {len(array)} rows, first in row {np.argmin(good)}: "
                         "has the training diverged?")
    return array


def check_metric(operation: str, metric: Any) -> None:
    """Raise TypeError or ValueError unless the metric is in METRICS."""
    expected = f"expected one of {', '.join(METRICS)}"
    if not isinstance(metric, str):
        raise TypeError(f"{operation}: metric is {type(metric).__name__}, {expected}")
    if metric not in METRICS:
        raise ValueError(f"{operation}: metric is {metric!r}, {expected}")


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """(S, C) float64, each row divided by its norm; a zero row stays, and one that is not finite has NaN."""
    with np.errstate(invalid="ignore"):
        largest = np.abs(vectors).max(axis=1, keepdims=True)  # scaled first, so that no square underflows
        vectors = vectors / np.where(largest == 0, 1.0, largest)
        length = np.sqrt(np.sum(vectors * vectors, axis=1, keepdims=True))
        return vectors / np.where(length == 0, 1.0, length)


class Space:
    """N vectors (N, C) float64, prepared so that distances to them are fast and exact.

    vectors : normalized (cosine), or as given (l2).
    """

    def __init__(self, vectors: np.ndarray, metric: str):
        self.metric = metric
        self._centre = np.zeros(vectors.shape[1])
        if metric == "l2" and len(vectors):
            # A row, not the mean itself: differences of integer rows, for example, are then exact.
            offset = vectors - vectors.mean(axis=0)
            self._centre = vectors[np.argmin(np.einsum("nc,nc->n", offset, offset))]
        self.vectors = self.place(vectors)
        centred = self.vectors - self._centre
        self._columns = np.ascontiguousarray(centred.T)
        self._squares = np.einsum("nc,nc->n", centred, centred)

    def __len__(self) -> int:
        return len(self.vectors)

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """Prepare other vectors (Q, C) float64 like those of the space."""
        return vectors if self.metric == "l2" else unit_rows(vectors)

    def compare(self, queries: np.ndarray) -> np.ndarray:
        """(Q, N) float64: cosine distances (cosine) or squared distances (l2) from placed queries to
        all vectors.  Values that differ by less than a `step` count as equal."""
        if self.metric == "cosine":
            distances = queries @ self._columns
            return np.subtract(1.0, distances, out=distances)
        centred = queries - self._centre
        distances = centred @ self._columns
        squares = np.einsum("qc,qc->q", centred, centred)[:, None]
        distances *= -2.0
        distances += squares
        distances += self._squares
        close = distances < _CANCELLED * (squares + self._squares)
        for query in np.flatnonzero(close.any(axis=1)):
            rows = np.flatnonzero(close[query])
            for start in range(0, rows.size, _ROWS):
                part = rows[start : start + _ROWS]
                difference = self.vectors[part] - queries[query]
                distances[query, part] = np.einsum("nc,nc->n", difference, difference)
        return distances

    def step(self, compared: np.ndarray) -> np.ndarray | float:
        """The largest difference between values of `compare` that count as equal."""
        return _COSINE_STEP if self.metric == "cosine" else _L2_STEP * compared

    def distances(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n,) float64: distances from one placed query (C,) to the given rows, each computed from the
        difference of the two vectors: exactly 0 for equal vectors, and independent of their rows."""
        vectors = self.vectors[rows]
        difference = vectors - query
        squared = np.sum(difference * difference, axis=1)
        if self.metric == "l2":
            return np.sqrt(squared)
        no_angle = ~(vectors.any(axis=1) & query.any())  # a zero vector: cosine 0
        return np.where(no_angle, 1.0, squared / 2)  # |u - v|^2 = 2 - 2 cos
