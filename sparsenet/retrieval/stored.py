"""Vectors where they are stored: in memory or in a memory-mapped file, in any dtype, read as float64 block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparsenet.retrieval.distances import check_matrix, unusable_rows, usable_rows

NUMBERS = 1 << 20  # of a block


def is_mapped(vectors: Any) -> bool:
    """Whether an array is memory-mapped, such as one of `np.load(path, mmap_mode="r")`, or a slice of it."""
    return isinstance(vectors, np.memmap)


def checked(operation: str, name: str, vectors: Any) -> np.ndarray:
    """The vectors (S, C) in their own dtype: an array that is memory-mapped itself, of others a copy.

    Raises TypeError, ValueError as `check_vectors` does; it reads them in blocks.
    """
    array = check_matrix(operation, name, vectors)
    good = np.ones(len(array), bool)
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite
        for rows in blocks(*array.shape):
            good[rows] = usable_rows(array[rows].astype(np.float64))
    if not good.all():
        raise unusable_rows(operation, name, good)
    return vectors if is_mapped(vectors) else np.array(array)


def blocks(count: int, width: int, rows: int | None = None) -> list[slice]:
    """Slices that cover `count` rows of `width` numbers: about NUMBERS of these, and at most so many rows, in each."""
    step = max(1, NUMBERS // max(1, width))
    step = step if rows is None else max(1, min(step, rows))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


class StoredVectors:
    """N vectors (N, C), one array after the other, of any real dtypes; nothing is kept but these arrays.

    parts : arrays (n, C), at least one
    """

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = list(parts)
        self.starts = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def width(self) -> int:
        return self.parts[0].shape[1]

    def block(self, rows: slice) -> np.ndarray:
        """The vectors of consecutive rows (n, C), float64; not to be changed."""
        start, stop, _ = rows.indices(len(self))
        found = [_wide(part[max(0, start - begun):stop - begun])
                 for part, begun in zip(self.parts, self.starts.tolist(), strict=False)
                 if begun < stop and start < begun + len(part)]
        return found[0] if len(found) == 1 else np.concatenate([np.zeros((0, self.width)), *found])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of any rows (n, C), float64."""
        if len(self.parts) == 1:
            return self.parts[0][rows].astype(np.float64)
        found = np.empty((len(rows), self.width))
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(owner):
            own = owner == number
            found[own] = self.parts[number][rows[own] - self.starts[number]]
        return found

    def of_blocks(self, function: Callable[[np.ndarray], Any]) -> np.ndarray:
        """The results of a function of blocks (n, C), each (n,) or (n, ...), one after the other."""
        found = [function(self.block(rows)) for rows in blocks(len(self), self.width)]
        return np.concatenate(found) if found else np.zeros(0)


def _wide(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows).astype(np.float64, order="C", copy=False)
