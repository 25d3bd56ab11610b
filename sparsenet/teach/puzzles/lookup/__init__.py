"""Rows of keys in a sorted list."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.kernels import launch
from sparsenet.teach.inputs import sites_of
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle


def cases() -> Iterator[Case]:
    for seed, (side, count) in enumerate(((4, 6), (5, 9), (8, 20), (4, 0))):
        keys = sites_of(seed, (side, side), count).keys
        queries = np.random.default_rng(seed).integers(0, side * side + 3, 12)
        table = launch("hash_insert", keys, True)
        expected = launch("hash_lookup", *table, queries)

        def explain(_: int, index: tuple[int, ...], keys=keys, queries=queries) -> str:
            return f"The query is {queries[index[0]]}; the keys are {keys.tolist()}."

        yield Case(f"{count} keys, {len(queries)} queries", {"keys": keys, "queries": queries}, (expected,), explain)


def _nearest(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(keys, queries), len(keys) - 1)


PUZZLE = NumpyPuzzle(
    __name__, "The row of a key, or -1", """
    keys (N,) are sorted, and none occurs twice.  For each of the queries (Q,) return the row at which it stands in
    keys, or -1 if it does not: that is how a rulebook asks for a cell whether it is a site.

        keys [3, 5, 9]     queries [5, 4, 9, 12]     ->     [1, -1, 2, -1]

    Do without a loop over the queries, if you can.  There may be no key at all.
    """, (
        "np.searchsorted(keys, queries) gives the row at which each query would have to be inserted.",
        "If a query is among the keys, that is its row; else another key, or none, stands there: compare.",
        "The row may be len(keys), which does not exist: limit it, np.minimum(rows, len(keys) - 1), before you "
        "compare.  "
        "Without keys all is -1."),
    results=("rows",), cases=cases, mistakes=(
        ("A query that is not among the keys gets the row of another key: compare keys[row] with the query.",
         _nearest),
        ("A query that is not among the keys gets the row of another key: compare keys[row] with the query.",
         lambda keys, queries: np.searchsorted(keys, queries))))
