"""Exact nearest neighbours: every vector is compared, without approximation."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.files import read_hdf5, write_hdf5
from sparsenet.kernels.cpu.threads import run_blocks, single_threaded_blas
from sparsenet.retrieval.distances import METRICS, Space, check_metric, check_vectors

FORMAT, VERSION = "sparsenet-index", 1
_BLOCK = 1 << 20  # distances that a thread holds at a time


class Index:
    """Vectors to search, in the order they were added.

    metric : "cosine": 1 - cosine of the angle, a zero vector has distance 1 to every vector;
        "l2": Euclidean distance.

    Example
    -------
    >>> index = Index("l2")
    >>> index.add([[0, 0], [3, 4], [0, 1]])
    >>> index.search([[0, 0]], k=2)
    (array([[0., 1.]]), array([[0, 2]]))
    """

    def __init__(self, metric: str = "cosine"):
        if not isinstance(metric, str):
            raise TypeError(f"Index: metric is {type(metric).__name__}, expected one of {', '.join(METRICS)}: vectors "
                            "are added afterwards, index.add(vectors)")
        check_metric("Index", metric)
        self.metric = metric
        self._parts: list[np.ndarray] = []
        self._space: Space | None = None

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def vectors(self) -> np.ndarray:
        """(N, C), in the order they were added."""
        if not self._parts:
            raise ValueError("Index: it is empty: call index.add(vectors) first")
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def add(self, vectors: Any) -> None:
        """Append vectors (n, C) of real numbers as the next n rows.

        Raises
        ------
        TypeError, ValueError : not a matrix of real numbers; NaN or infinity, the message names the first such
            row; another C than before.
        """
        checked = check_vectors("Index.add", "vectors", vectors)
        if self._parts and checked.shape[1] != self._parts[0].shape[1]:
            raise ValueError(f"Index.add: vectors have {checked.shape[1]} numbers, expected "
                             f"{self._parts[0].shape[1]} as those in the index")
        self._parts.append(np.array(vectors))
        self._space = None

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest vectors of each query.

        Parameters
        ----------
        queries : (Q, C) real numbers
        k : 1 to N

        Returns
        -------
        distances : (Q, k) float64, ascending
        rows : (Q, k) int64; vectors at the same distance are in the order they were added

        Raises
        ------
        TypeError, ValueError : the index is empty; queries are not (Q, C) or not finite, the message names the
            first such row; k is not an integer from 1 to N.
        """
        vectors = self.vectors
        queries = check_vectors("Index.search", "queries", queries)
        if queries.shape[1] != vectors.shape[1]:
            raise ValueError(f"Index.search: queries have {queries.shape[1]} numbers, the vectors of the index have "
                             f"{vectors.shape[1]}: embed them with the same network and layer")
        if not len(vectors):
            raise ValueError("Index.search: the index is empty: call index.add(vectors) first")
        if not isinstance(k, int | np.integer):
            raise TypeError(f"Index.search: k is {k!r}, expected an integer")
        if not 1 <= k <= len(vectors):
            raise ValueError(f"Index.search: k is {k}, expected 1 to {len(vectors)}, the number of vectors in the "
                             "index")
        if self._space is None:
            self._space = Space(vectors.astype(np.float64), self.metric)
        space = self._space
        placed = space.place(queries)
        distances = np.empty((len(queries), k))
        rows = np.empty((len(queries), k), np.int64)
        per_block = max(1, _BLOCK // len(vectors))

        def block(number: int) -> None:
            start = number * per_block
            compared = space.compare(placed[start : start + per_block])
            for query, near in enumerate(compared, start):
                distances[query], rows[query] = _nearest(space, placed[query], near, k)

        with single_threaded_blas():
            run_blocks(block, -(-len(queries) // per_block))
        return distances, rows

    def save(self, path: str | Path) -> None:
        """Write vectors and metric to an HDF5 file atomically: after a crash the old one remains."""
        write_hdf5(path, FORMAT, VERSION, {"metric": self.metric}, {"vectors": self.vectors})

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read an index written by `save`.

        Raises
        ------
        FileNotFoundError, ValueError : no such file; not a complete index file.
        """
        found = read_hdf5(path, {FORMAT: VERSION})
        metric, vectors = found.attribute("metric", str), found.array("vectors", "fiu", 2)
        if metric not in METRICS:
            raise found.wrong(f"metric is {reprlib.repr(metric)}, expected one of {', '.join(METRICS)}")
        index = cls(metric)
        try:
            index.add(vectors)
        except ValueError as error:
            raise ValueError(f"Index.load: {path}: {error}") from error
        return index


def _nearest(space: Space, query: np.ndarray, compared: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest by exact distance, ties by row, among the candidates that `compared` (N,) allows."""
    kth = np.partition(compared, k - 1)[k - 1]
    rows = np.flatnonzero(compared <= kth + 2 * space.step(np.abs(kth)))
    distances = space.distances(query, rows)
    first = np.argsort(distances, kind="stable")[:k]
    return distances[first], rows[first]
