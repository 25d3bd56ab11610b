"""Max-pooling in which the background competes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import sparsenet as sn
from sparsenet.teach.inputs import examples
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle
from sparsenet.teach.puzzles.convolution import explained

FILTERS = (((9,), 4, 3, 1, 0), ((5, 6), 7, 3, 1, 0), ((6, 6), 8, 2, 2, 0), ((2, 2), 4, 2, 1, 0),
           ((4, 5, 4), 10, 2, 1, 0), ((5, 4), 0, 3, 1, 0))


def cases() -> Iterator[Case]:
    for example in examples(60, FILTERS):
        book, rng = example.rulebook, example.rng()
        features, background = rng.normal(size=(book.shape[0], 2)), rng.normal(size=2)
        x = sn.SparseTensor.from_sites(features, book.input_sites, background=background)
        expected = np.asarray(sn.ops.max_pool(x, book.geometry).features)
        yield Case(f"{example.words}, background {background.round(2).tolist()}",
                   {"features": features, "background": background, "neighbours": book.neighbours.copy()}, (expected,),
                   explained(example))


def _pooled(features, neighbours, inactive):
    return np.concatenate([features, [inactive]])[neighbours].max(axis=1)


PUZZLE = NumpyPuzzle(
    __name__, "Max-pooling, where the background competes", """
    Each output m is, channel by channel, the largest number in its window: of the features of its neighbours, and
    of the background (C,) if at least one cell of the window is inactive (-1 among its neighbours).  A window full
    of sites does not see the background.

    Return the result, (M, C), from features (N, C), background (C,), neighbours (M, K).
    """, (
        "An inactive cell holds the background: give it a row of its own.",
        "features[-1] is the last row in NumPy.  What if the background were the last row?",
        "rows = np.concatenate([features, background[None]]); rows[neighbours] is (M, K, C)."),
    results=("result",), cases=cases, mistakes=(
        ("Inactive cells are skipped; they hold the background, which competes.",
         lambda features, background, neighbours: _pooled(features, neighbours, np.full_like(background, -np.inf))),
        ("Inactive cells count as zeros; they hold the background.",
         lambda features, background, neighbours: _pooled(features, neighbours, np.zeros_like(background))),
        ("The background competes in windows without an inactive cell, too.",
         lambda features, background, neighbours: np.maximum(_pooled(features, neighbours, background), background)),
        ("-1 reads the last row of the features: in NumPy that is a row.",
         lambda features, background, neighbours: features[neighbours].max(axis=1))))
