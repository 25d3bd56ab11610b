"""Checks of vectors and metrics, and the lengths of vectors; `space.py` has the distances."""

from __future__ import annotations

from typing import Any

import numpy as np

METRICS = ("cosine", "l2")
LARGEST = 1e150  # limit of a vector's values, so that their squares stay finite


def check_vectors(operation: str, name: str, vectors: Any) -> np.ndarray:
    """The vectors as (S, C) float64.

    Raises
    ------
    TypeError, ValueError : not a matrix of real numbers, no column, or a value that is NaN, infinite or
        beyond LARGEST; the message names the first such row.
    """
    array = check_matrix(operation, name, vectors)
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite
        array = array.astype(np.float64, order="C")
    good = usable_rows(array)
    if not good.all():
        raise unusable_rows(operation, name, good)
    return array


def check_matrix(operation: str, name: str, vectors: Any) -> np.ndarray:
    """The vectors as an array, unread if they are one.  Raises TypeError, ValueError unless they are (S, C) of real
    numbers, with a column."""
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
    return array


def usable_rows(vectors: np.ndarray) -> np.ndarray:
    """(S,) bool, which rows (S, C) float64 have no NaN and no number beyond LARGEST."""
    return (np.abs(vectors) <= LARGEST).all(axis=1)  # False for NaN too


def unusable_rows(operation: str, name: str, good: np.ndarray) -> ValueError:
    """The error if some rows are not usable."""
    return ValueError(f"{operation}: {name} have NaN, infinite or huge (beyond {LARGEST:g}) numbers in "
                      f"{np.count_nonzero(~good)} of {len(good)} rows, first in row {np.argmin(good)}: "
                      "has the training diverged?")


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


def row_lengths(vectors: np.ndarray) -> np.ndarray:
    """(S,) float64, the norms of rows (S, C) float64."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scaled = vectors / np.where(largest == 0, 1.0, largest)
    return largest[:, 0] * np.sqrt(np.sum(scaled * scaled, axis=1))
