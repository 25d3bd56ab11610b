"""Distances from queries to N vectors, in float64, with a tolerance for ties, without a copy of the vectors.

Rankings depend on ties: shapes with equal descriptors must have exactly the same distance, in any
row, and distances that differ only by rounding must count as equal.  So besides the distances of
all pairs a `Space` gives the step below which two of them count as equal.

    cosine   1 - cosine of the angle; a zero vector has cosine 0 with every vector.
             One step is 2^-46, the possible rounding error of a dot product of unit vectors.
    l2       Euclidean.  Pairs are compared by the square: |a|^2 + |b|^2 - 2ab relative to a central
             data row, or sum (a-b)^2 of the original vectors if the first form cancels more than
             ten bits.  One step is 2^-40 of the square.

Of each vector one number is kept: its length (cosine), or its squared distance from a central one (l2).  The vectors
are read as float64 block by block, so that they may be float32 in a memory-mapped file larger than the memory.

    queries (Q, C) --place--> compare with a block of rows: (Q, n), fast, to a `step`
                                   | candidates
                                   v
                              distances to these rows: exact, independent of the block
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsenet.retrieval.distances import row_lengths, unit_rows
from sparsenet.retrieval.stored import StoredVectors

_COSINE_STEP = 2.0**-46
_L2_STEP = 2.0**-40
_CANCELLED = 2.0**-10  # relative to |a|^2 + |b|^2; smaller squared distances are computed from a - b
_ROWS = 512  # rows subtracted at a time, so that the differences stay in cache
_SAMPLE = 1 << 12  # rows among which a central one is looked for
_TINY = 1e-250  # a shorter vector is scaled before it is multiplied, so that no product underflows
ALL = slice(None)


class Space:
    """N vectors (N, C), or several such arrays one after the other, of real numbers, in memory or memory-mapped;
    prepared so that distances to them are fast and exact.

    metric : "cosine" or "l2"
    """

    def __init__(self, vectors: np.ndarray | Sequence[np.ndarray], metric: str):
        self.metric = metric
        self.stored = StoredVectors([vectors] if isinstance(vectors, np.ndarray) else vectors)
        self._centre = np.zeros(self.stored.width)
        if metric == "cosine":
            self._lengths = self.stored.of_blocks(row_lengths)
            self._lengths[self._lengths == 0] = 1.0
            return
        if len(self):
            # A row, not the mean itself: differences of integer rows, for example, are then exact.
            sample = self.stored.take(np.arange(0, len(self), -(-len(self) // _SAMPLE)))
            offset = sample - sample.mean(axis=0)
            self._centre = sample[np.argmin(np.einsum("nc,nc->n", offset, offset))]
        self._squares = self.stored.of_blocks(lambda rows: _squares(rows - self._centre))

    def __len__(self) -> int:
        return len(self.stored)

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """Prepare queries (Q, C) float64: of unit length (cosine), or as they are (l2)."""
        return vectors if self.metric == "l2" else unit_rows(vectors)

    def compare(self, queries: np.ndarray, rows: slice = ALL) -> np.ndarray:
        """(Q, n) float64: cosine distances (cosine) or squared distances (l2) from placed queries to consecutive
        vectors.  Values that differ by less than a `step` count as equal."""
        vectors = self.stored.block(rows)
        if self.metric == "cosine":
            lengths = self._lengths[rows]
            if lengths.min(initial=1.0) < _TINY:
                vectors, lengths = unit_rows(vectors), np.ones(len(vectors))
            distances = queries @ vectors.T
            distances /= lengths
            return np.subtract(1.0, distances, out=distances)
        centred = queries - self._centre
        distances = centred @ (vectors - self._centre).T
        squares, own = _squares(centred)[:, None], self._squares[rows]
        distances *= -2.0
        distances += squares
        distances += own
        close = distances < _CANCELLED * (squares + own)
        for query in np.flatnonzero(close.any(axis=1)):
            near = np.flatnonzero(close[query])
            for start in range(0, near.size, _ROWS):
                part = near[start : start + _ROWS]
                distances[query, part] = _squares(vectors[part] - queries[query])
        return distances

    def step(self, compared: np.ndarray) -> np.ndarray | float:
        """The largest difference between values of `compare` that count as equal."""
        return _COSINE_STEP if self.metric == "cosine" else _L2_STEP * compared

    def distances(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n,) float64: distances from one placed query (C,) to the given rows, each computed from the
        difference of the two vectors: exactly 0 for equal vectors, and independent of their rows."""
        vectors = self.place(self.stored.take(rows))
        difference = vectors - query
        squared = np.sum(difference * difference, axis=1)
        if self.metric == "l2":
            return np.sqrt(squared)
        no_angle = ~(vectors.any(axis=1) & query.any())  # a zero vector: cosine 0
        return np.where(no_angle, 1.0, squared / 2)  # |u - v|^2 = 2 - 2 cos


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nc->n", rows, rows)
