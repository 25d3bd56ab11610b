"""Exact nearest neighbours: every vector is compared, without approximation."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.files import read_hdf5, write_hdf5
from sparsenet.retrieval.distances import METRICS, check_metric, check_vectors
from sparsenet.retrieval.nearest import k_nearest, within
from sparsenet.retrieval.space import Space
from sparsenet.retrieval.stored import checked, is_mapped

FORMAT, VERSION = "sparsenet-index", 2  # version 1 has no ids: they are the rows


class Index:
    """Vectors to search, in the order they were added, each with an id: its row unless given or after a removal.

    Vectors keep their dtype, and are converted to float64 block by block while they are compared; of each, one more
    number is kept.  Memory-mapped arrays stay in their files: ten million vectors of 192 numbers in float32 take 7.7 GB
    of disk, and less than 1 GB of memory.

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
        """(N, C), in the order they were added; a copy if they are in several files, or of different dtypes."""
        _ = self.width  # raises if there are none
        self._merge()
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)

    @property
    def width(self) -> int:
        """The numbers of a vector."""
        if not self._parts:
            raise ValueError("Index: it is empty: call index.add(vectors) first")
        return self._parts[0].shape[1]

    def _merge(self) -> None:
        """Join parts in memory, of one dtype, that follow each other."""
        alike: list[list[np.ndarray]] = []
        for part in self._parts:
            if alike and not is_mapped(part) and not is_mapped(alike[-1][0]) and part.dtype == alike[-1][0].dtype:
                alike[-1].append(part)
            else:
                alike.append([part])
        self._parts = [same[0] if len(same) == 1 else np.concatenate(same) for same in alike]

    @property
    def ids(self) -> np.ndarray:
        """(N,) int64, the ids of the vectors."""
        return self._ids.copy()

    def add(self, vectors: Any, ids: Any = None) -> None:
        """Append vectors (n, C) of real numbers as the next n rows.

        vectors : copied; but a memory-mapped array, such as `np.load(path, mmap_mode="r")`, is kept as it is and read
            in blocks, also here: it must not change
        ids : (n,) integers from 0, not yet in the index; default: the next numbers after the greatest id ever given

        Raises
        ------
        TypeError, ValueError : not a matrix of real numbers; NaN or infinity, the message names the first such
            row; another C than before; ids that are no integers, below 0, given twice or in the index already.
        """
        kept = checked("Index.add", "vectors", vectors)
        if self._parts and kept.shape[1] != self.width:
            raise ValueError(f"Index.add: vectors have {kept.shape[1]} numbers, expected {self.width} as those in the "
                             "index")
        if ids is None:
            ids = np.arange(self._next_id, self._next_id + len(kept))
        ids = _checked_ids("Index.add", ids)
        if ids.shape != (len(kept),):
            raise ValueError(f"Index.add: ids have shape {ids.shape}, expected ({len(kept)},): one for each vector")
        if (present := np.isin(ids, self._ids)).any():
            raise ValueError(f"Index.add: the id {ids[np.argmax(present)]} is in the index already: remove it first, "
                             "or give another id")
        self._parts.append(kept)
        self._ids = np.concatenate((self._ids, ids))
        self._next_id = max(self._next_id, int(ids.max(initial=-1)) + 1)
        self._space = None

    def remove(self, ids: Any) -> None:
        """Remove the vectors with these ids, an integer or (n,) of them; the others keep their ids and their order.
        Those in a memory-mapped array are copied to memory if one of them is removed.

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
            of_parts = np.split(kept, np.cumsum([len(part) for part in self._parts])[:-1])
            self._parts = [part if own.all() else np.asarray(part)[own]
                           for part, own in zip(self._parts, of_parts, strict=True)]
            self._ids, self._space = self._ids[kept], None

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
        queries = self._checked_queries("Index.search", queries)
        if not len(self):
            raise ValueError("Index.search: the index is empty: call index.add(vectors) first")
        if not isinstance(k, int | np.integer):
            raise TypeError(f"Index.search: k is {k!r}, expected an integer")
        if not 1 <= k <= len(self):
            raise ValueError(f"Index.search: k is {k}, expected 1 to {len(self)}, the number of vectors in the "
                             "index")
        space = self._prepared()
        distances, rows = k_nearest(space, space.place(queries), int(k))
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
        found = [(np.zeros(0), np.zeros(0, np.int64))] * len(queries)
        if len(self):
            space = self._prepared()
            found = within(space, space.place(queries), float(radius))
        row_splits = np.cumsum([0, *(len(rows) for _, rows in found)])
        distances = np.concatenate([np.zeros(0), *(distances for distances, _ in found)])
        rows = np.concatenate([np.zeros(0, np.int64), *(rows for _, rows in found)])
        return row_splits, distances, self._ids[rows]

    def _checked_queries(self, operation: str, queries: Any) -> np.ndarray:
        queries, width = check_vectors(operation, "queries", queries), self.width
        if queries.shape[1] != width:
            raise ValueError(f"{operation}: queries have {queries.shape[1]} numbers, the vectors of the index have "
                             f"{width}: embed them with the same network and layer")
        return queries

    def _prepared(self) -> Space:
        if self._space is None:
            self._merge()
            self._space = Space(self._parts, self.metric)
        return self._space

    def save(self, path: str | Path) -> None:
        """Write vectors, ids and metric to an HDF5 file atomically: after a crash the old one remains."""
        if self._next_id == len(self) and np.array_equal(self._ids, np.arange(len(self))):
            write_hdf5(path, FORMAT, 1, {"metric": self.metric}, {"vectors": self.vectors})
        else:
            write_hdf5(path, FORMAT, VERSION, {"metric": self.metric, "next_id": self._next_id},
                       {"vectors": self.vectors, "ids": self._ids})

    @classmethod
    def load(cls, path: str | Path, memory_map: bool = False) -> Index:
        """Read an index written by `save`.

        memory_map : leave the vectors in the file, which must stay as it is

        Raises
        ------
        FileNotFoundError, ValueError : no such file; not a complete index file.
        """
        found = read_hdf5(path, {FORMAT: VERSION}, mapped=("vectors",) if memory_map else ())
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
