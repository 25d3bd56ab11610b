"""The nearest vectors of queries in a Space, and those within a radius: exact, in blocks of queries times rows.

Of each block the fast comparison names candidates, whose exact distances are computed at once; what is kept of a query
are its k nearest so far, and a limit beyond which no vector can be among them.  Which thread takes which block, and
when, changes the number of candidates but not the result: the k nearest by (distance, row).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from sparsenet.kernels.cpu.threads import run_blocks, single_threaded_blas
from sparsenet.retrieval.space import Space
from sparsenet.retrieval.stored import blocks

_BLOCK = 1 << 20  # distances that a thread holds at a time
_QUERIES = 256  # of a block, at most
_PAIRS = 1 << 22  # results that are collected at a time

Found = tuple[np.ndarray, np.ndarray]  # distances float64, ascending, and rows int64


def k_nearest(space: Space, queries: np.ndarray, k: int) -> Found:
    """Distances (Q, k) and rows (Q, k) of the k nearest of each placed query (Q, C), at equal distances by row.
    k : 1 to the number of vectors"""
    distances, rows = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for turn in blocks(len(queries), 1, max(1, _PAIRS // k)):
        for query, found in enumerate(_collected(space, queries[turn], lambda: _Nearest(k, space)), turn.start):
            distances[query], rows[query] = found.result()
    return distances, rows


def within(space: Space, queries: np.ndarray, radius: float) -> list[Found]:
    """For each placed query (Q, C) the distances and rows of all vectors up to the radius, at equal distances by
    row."""
    return [found.result() for found in _collected(space, queries, lambda: _Within(radius, space))]


class _Collected:
    """The candidates of a query that count so far.  limit : of `Space.compare`, beyond which no vector counts"""

    limit: float

    def __init__(self) -> None:
        self.parts: list[Found] = [(np.zeros(0), np.zeros(0, np.int64))]

    def add(self, distances: np.ndarray, rows: np.ndarray) -> None:
        self.parts.append((distances, rows))

    def result(self) -> Found:
        distances, rows = map(np.concatenate, zip(*self.parts, strict=True))
        order = np.lexsort((rows, distances))
        return distances[order], rows[order]


class _Nearest(_Collected):
    """The k nearest."""

    def __init__(self, k: int, space: Space):
        super().__init__()
        self.k, self.space, self.limit, self.waiting = k, space, np.inf, 0

    def add(self, distances: np.ndarray, rows: np.ndarray) -> None:
        super().add(distances, rows)
        self.waiting += len(rows)
        if self.waiting >= 2 * self.k:
            found = self.result()
            self.parts, self.waiting = [found], self.k
            farthest = found[0][-1] if self.space.metric == "cosine" else found[0][-1] ** 2
            self.limit = farthest + 2 * self.space.step(farthest)

    def result(self) -> Found:
        distances, rows = super().result()
        return distances[:self.k], rows[:self.k]

    def limits(self, compared: np.ndarray) -> np.ndarray:
        """(Q,): the limits that the compared values (Q, n) of a block set by themselves."""
        if compared.shape[1] < self.k:
            return np.full(len(compared), np.inf)
        kth = np.partition(compared, self.k - 1, axis=1)[:, self.k - 1]
        return kth + 2 * self.space.step(np.abs(kth))


class _Within(_Collected):
    """Those up to a radius, which holds up to rounding."""

    def __init__(self, radius: float, space: Space):
        super().__init__()
        self.squared = space.metric == "l2"
        largest = min(radius * radius if self.squared else radius, np.finfo(np.float64).max / 2)
        step = space.step(np.array(largest))
        self.limit, self.largest = float(largest + 2 * step), largest + step

    def add(self, distances: np.ndarray, rows: np.ndarray) -> None:
        near = (distances * distances if self.squared else distances) <= self.largest
        super().add(distances[near], rows[near])

    def limits(self, compared: np.ndarray) -> np.ndarray:
        return np.full(len(compared), self.limit)


def _collected(space: Space, queries: np.ndarray, new: Callable[[], _Nearest | _Within]) -> list[_Nearest | _Within]:
    """For each query a new collection, filled from all vectors."""
    found = [new() for _ in queries]
    limits = np.array([one.limit for one in found])
    lock = threading.Lock()
    of_queries = blocks(len(queries), 1, _QUERIES)
    largest = max(1, min(len(queries), _QUERIES))
    of_rows = blocks(len(space), space.stored.width, _BLOCK // largest)

    def block(number: int) -> None:
        own, rows = of_queries[number // len(of_rows)], of_rows[number % len(of_rows)]
        compared = space.compare(queries[own], rows)
        bounds = limits[own].copy()
        unbounded = np.flatnonzero(np.isinf(bounds))
        if unbounded.size:
            bounds[unbounded] = found[own.start].limits(compared[unbounded])
        near, places = np.nonzero(compared <= bounds[:, None])
        splits = np.searchsorted(near, np.arange(len(compared) + 1))
        for query in np.unique(near).tolist():
            candidates = places[splits[query]:splits[query + 1]] + rows.start
            distances = space.distances(queries[own.start + query], candidates)
            with lock:
                collected = found[own.start + query]
                collected.add(distances, candidates)
                limits[own.start + query] = min(limits[own.start + query], bounds[query], collected.limit)

    with single_threaded_blas():
        run_blocks(block, len(of_queries) * len(of_rows))
    return found
