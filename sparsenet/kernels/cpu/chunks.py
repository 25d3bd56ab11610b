"""Runs of rows cut into chunks, each within one run: the blocks of reductions over runs.

    splits (S+1,)   0          5  5       8            rows of run s: splits[s] to splits[s + 1]
    chunks          |0 1 2|3 4|   |5 6 7|              of at most 3 rows, from the beginning of each run on

The borders within a run depend on the run alone, so a sum by chunks has the same bits whatever the other runs are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Chunks(NamedTuple):
    """starts, stops : (L,) the first row and the end of each chunk;  owners : (L,) its run"""

    starts: np.ndarray
    stops: np.ndarray
    owners: np.ndarray


def chunks_of(splits: np.ndarray, rows: int) -> Chunks:
    """The chunks of at most `rows` rows, run after run; an empty run has none."""
    lengths = np.diff(splits)
    counts = -(-lengths // rows)
    owners = np.repeat(np.arange(len(lengths)), counts)
    index_in_run = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = splits[owners] + rows * index_in_run
    return Chunks(starts, np.minimum(starts + rows, splits[owners + 1]), owners)
