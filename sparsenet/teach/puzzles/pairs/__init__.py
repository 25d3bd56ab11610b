"""The pairs of a rulebook."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.inputs import examples
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle


def cases() -> Iterator[Case]:
    for example in examples(30):
        book = example.rulebook

        def explain(result: int, index: tuple[int, ...], book=book) -> str:
            if result:
                return f"The pairs of offset {index[0]} begin there; the neighbours are\n{book.neighbours}"
            k = int(np.searchsorted(book.pair_splits, index[0], side="right")) - 1
            column = book.neighbours[:, k].tolist()
            return f"Pair {index[0]} is one of offset {k}, whose column of the neighbours is {column}."

        yield Case(example.words, {"neighbours": book.neighbours.copy()}, (book.pairs, book.pair_splits), explain)


def _pairs(neighbours: np.ndarray, turned: bool, by_output: bool) -> tuple[np.ndarray, np.ndarray]:
    if by_output:
        m, k = np.nonzero(neighbours >= 0)
    else:
        k, m = np.nonzero(neighbours.T >= 0)
    rows = np.stack([neighbours[m, k], m], axis=1)
    return rows[:, ::-1] if turned else rows, np.searchsorted(np.sort(k), np.arange(neighbours.shape[1] + 1))


def _counts(neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _pairs(neighbours, False, False)[0], np.append(np.count_nonzero(neighbours >= 0, axis=0), 0)


PUZZLE = NumpyPuzzle(
    __name__, "From neighbours to lists of pairs", """
    Most neighbours are -1, and a product for these is wasted.  The pairs are a list without them: rows [input,
    output] (P, 2), grouped by offset, sorted by output within an offset.  The splits (K+1,) say where each offset's
    begin: those of offset k are pairs[splits[k]:splits[k + 1]].

        neighbours  [[-1,  2],        pairs  [[0, 1],  offset 0        splits  [0, 2, 3]
                     [ 0, -1],                [1, 2],
                     [ 1, -1]]                [2, 0]]  offset 1

    Return (pairs, splits) of the neighbours (M, K).
    """, (
        "np.nonzero goes through an array row by row.  By offset first means: through neighbours.T.",
        "k, m = np.nonzero(neighbours.T >= 0) are the offsets and outputs of the pairs, in order.",
        "splits[k] is the number of pairs of all offsets before k: a cumulated sum with a 0 in front."),
    results=("pairs", "splits"), cases=cases, mistakes=(
        ("The columns are exchanged: a pair is [input, output].", lambda neighbours: _pairs(neighbours, True, False)),
        ("The pairs are sorted by output first; group them by offset.",
         lambda neighbours: _pairs(neighbours, False, True)),
        ("The splits are the numbers of pairs of each offset; they have to be where each offset's begin: add them up.",
         _counts)))
