"""Exact nearest neighbours: every vector is compared, without approximation."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.files import read_hdf5, write_hdf5
from sparsenet.kernels.cpu.threads import run_blocks, single_threaded_blas
from sparsenet.retrieval.distances import METRICS, Space, check_metric, check_vectors

FORMAT, VERSION = "sparsenet-index", 2  # version 1 has no ids: they are the rows
_BLOCK = 1 << 20  # distances that a thread holds at a time


class Index:
    """Vectors to search, in the order they were added, each with an id: its row unless given or after a removal.

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
        self._ids = np.zeros(0, np.int64)
        self._next_id = 0  # greater than every id so far, removed ones included
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

    @property
    def ids(self) -> np.ndarray:
        """(N,) int64, the ids of the vectors."""
        return self._ids.copy()

    def add(self, vectors: Any, ids: Any = None) -> None:
        """Append vectors (n, C) of real numbers as the next n rows.

        ids : (n,) integers from 0, not yet in the index; default: the next numbers after the greatest id ever given

        Raises
        ------
        TypeError, ValueError : not a matrix of real numbers; NaN or infinity, the message names the first such
            row; another C than before; ids that are no integers, below 0, given twice or in the index already.
        """
        checked = check_vectors("Index.add", "vectors", vectors)
        if self._parts and checked.shape[1] != self._parts[0].shape[1]:
            raise ValueError(f"Index.add: vectors have {checked.shape[1]} numbers, expected "
                             f"{self._parts[0].shape[1]} as those in the index")
        if ids is None:
            ids = np.arange(self._next_id, self._next_id + len(checked))
        ids = _checked_ids("Index.add", ids)
        if ids.shape != (len(checked),):
            raise ValueError(f"Index.add: ids have shape {ids.shape}, expected ({len(checked)},): one for each vector")
        if (present := np.isin(ids, self._ids)).any():
            raise ValueError(f"Index.add: the id {ids[np.argmax(present)]} is in the index already: remove it first, "
                             "or give another id")
        self._parts.append(np.array(vectors))
        self._ids = np.concatenate((self._ids, ids))
        self._next_id = max(self._next_id, int(ids.max(initial=-1)) + 1)
        self._space = None

    def remove(self, ids: Any) -> None:
        """Remove the vectors with these ids, an integer or (n,) of them; the others keep their ids and their order.

        Raises
        ------
        TypeError, ValueError : ids that are not integers, given twice, or not in the index; nothing is then removed.
        """
        ids = _checked_ids("Index.remove", np.atleast_1d(ids))
        absent = ~np.isin(ids, self._ids)
        if absent.any():
            raise ValueError(f"Index.remove: the id {ids[np.argmax(absent)]} is not in the index of {len(self)} "
                             "vectors")
        if ids.size:
            kept = ~np.isin(self._ids, ids)
            self._parts, self._ids, self._space = [self.vectors[kept]], self._ids[kept], None

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest vectors of each query.

        Parameters
        ----------
        queries : (Q, C) real numbers
        k : 1 to N

        Returns
        -------
        distances : (Q, k) float64, ascending
        ids : (Q, k) int64; vectors at the same distance are in the order they were added

        Raises
        ------
        TypeError, ValueError : the index is empty; queries are not (Q, C) or not finite, the message names the
            first such row; k is not an integer from 1 to N.
        """
        vectors = self.vectors
        queries = self._checked_queries("Index.search", queries)
        if not len(vectors):
            raise ValueError("Index.search: the index is empty: call index.add(vectors) first")
        if not isinstance(k, int | np.integer):
            raise TypeError(f"Index.search: k is {k!r}, expected an integer")
        if not 1 <= k <= len(vectors):
            raise ValueError(f"Index.search: k is {k}, expected 1 to {len(vectors)}, the number of vectors in the "
                             "index")
        space = self._prepared()
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
        return distances, self._ids[rows]

    def range_search(self, queries: Any, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All vectors within a distance of each query.

        Parameters
        ----------
        queries : (Q, C) real numbers
        radius : 0 or more; a vector at this distance, up to rounding, is found

        Returns
        -------
        row_splits : (Q + 1,) int64; those of query q are row_splits[q] to row_splits[q + 1] - 1 of the other two
        distances : (n,) float64, ascending for each query
        ids : (n,) int64; vectors at the same distance are in the order they were added

        Raises
        ------
        TypeError, ValueError : the index is empty; queries are not (Q, C) or not finite, the message names the
            first such row; the radius is not a number from 0.
        """
        queries = self._checked_queries("Index.range_search", queries)
        if not isinstance(radius, int | float | np.integer | np.floating):
            raise TypeError(f"Index.range_search: radius is {radius!r}, expected a number")
        if not radius >= 0:
            raise ValueError(f"Index.range_search: radius is {radius}, expected 0 or more")
        found: list[Any] = [(np.zeros(0), np.zeros(0, np.int64))] * len(queries)
        if len(self):
            space = self._prepared()
            placed = space.place(queries)
            per_block = max(1, _BLOCK // len(self))

            def block(number: int) -> None:
                start = number * per_block
                for query, near in enumerate(space.compare(placed[start : start + per_block]), start):
                    found[query] = _within(space, placed[query], near, float(radius))

            with single_threaded_blas():
                run_blocks(block, -(-len(queries) // per_block))
        row_splits = np.cumsum([0, *(len(rows) for _, rows in found)])
        distances = np.concatenate([np.zeros(0), *(distances for distances, _ in found)])
        rows = np.concatenate([np.zeros(0, np.int64), *(rows for _, rows in found)])
        return row_splits, distances, self._ids[rows]

    def _checked_queries(self, operation: str, queries: Any) -> np.ndarray:
        queries, width = check_vectors(operation, "queries", queries), self.vectors.shape[1]
        if queries.shape[1] != width:
            raise ValueError(f"{operation}: queries have {queries.shape[1]} numbers, the vectors of the index have "
                             f"{width}: embed them with the same network and layer")
        return queries

    def _prepared(self) -> Space:
        if self._space is None:
            self._space = Space(self.vectors.astype(np.float64), self.metric)
        return self._space

    def save(self, path: str | Path) -> None:
        """Write vectors, ids and metric to an HDF5 file atomically: after a crash the old one remains."""
        if self._next_id == len(self) and np.array_equal(self._ids, np.arange(len(self))):
            write_hdf5(path, FORMAT, 1, {"metric": self.metric}, {"vectors": self.vectors})
        else:
            write_hdf5(path, FORMAT, VERSION, {"metric": self.metric, "next_id": self._next_id},
                       {"vectors": self.vectors, "ids": self._ids})

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
        ids = found.array("ids", "iu", 1) if found.version > 1 else None
        index = cls(metric)
        try:
            index.add(vectors, ids)
        except ValueError as error:
            raise ValueError(f"Index.load: {path}: {error}") from error
        if found.version > 1:
            index._next_id = max(index._next_id, found.attribute("next_id", int))
        return index


def _checked_ids(operation: str, ids: Any) -> np.ndarray:
    """(n,) int64, distinct, from 0."""
    array = np.asarray(ids)
    if not array.size:
        return np.zeros(array.shape, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{operation}: ids have dtype {array.dtype}, expected integers")
    if array.min() < 0 or array.max() >= 2**63 - 1:
        raise ValueError(f"{operation}: ids go from {array.min()} to {array.max()}, expected 0 to 2^63 - 2")
    values, counts = np.unique(array, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"{operation}: the id {values[counts.argmax()]} is given twice")
    return array.astype(np.int64)


def _nearest(space: Space, query: np.ndarray, compared: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest by exact distance, ties by row, among the candidates that `compared` (N,) allows."""
    kth = np.partition(compared, k - 1)[k - 1]
    rows = np.flatnonzero(compared <= kth + 2 * space.step(np.abs(kth)))
    distances = space.distances(query, rows)
    first = np.argsort(distances, kind="stable")[:k]
    return distances[first], rows[first]


def _within(space: Space, query: np.ndarray, compared: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact distances up to the radius, ascending, and their rows, ties by row, among the candidates of `compared`."""
    limit = min(radius if space.metric == "cosine" else radius * radius, np.finfo(np.float64).max / 2)
    step = space.step(np.array(limit))
    rows = np.flatnonzero(compared <= limit + 2 * step)
    distances = space.distances(query, rows)
    near = np.flatnonzero((distances if space.metric == "cosine" else distances * distances) <= limit + step)
    near = near[np.argsort(distances[near], kind="stable")]
    return distances[near], rows[near]
