"""The chance level of a retrieval: the average precision of a random ranking."""

from __future__ import annotations

import numpy as np


def expected_average_precision(relevant: int, ranked: int, query_first: bool = False) -> float:
    """The expected average precision of a uniformly random ranking, exactly.

    With R relevant items among M in random order, an item at rank i is relevant with probability R / M, and then
    1 + (i - 1)(R - 1)/(M - 1) of the first i are expected to be, so that (H_M is the M-th harmonic number)

        E[AP] = 1/R sum over i of R/M (1 + (i - 1)(R - 1)/(M - 1)) / i = (H_M + (R - 1)/(M - 1) (M - H_M)) / M

    which is above R / M, the precision of a random set, and tends to it as M grows.

    relevant, ranked : R and M, 1 <= R <= M
    query_first : rank 1 holds a relevant item for certain, the query itself, and the other M - 1 are in random order

    Raises
    ------
    ValueError : R is not from 1 to M.
    """
    if not 1 <= relevant <= ranked:
        raise ValueError(f"expected_average_precision: relevant is {relevant}, expected 1 to {ranked}, all that is "
                         "ranked")
    certain = int(query_first)
    free, drawn = ranked - certain, relevant - certain
    if not drawn:
        return 1.0
    before = np.arange(free)  # items in random order before each of them
    hits = certain + 1 + before * ((drawn - 1) / max(free - 1, 1))
    return float((certain + drawn / free * np.sum(hits / (certain + 1 + before))) / relevant)
