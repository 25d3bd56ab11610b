"""Which objects of each class are held out, to validate on: drawn by (seed, name)."""

from __future__ import annotations

import numpy as np

from sparsenet.random import keyed_rng

FEWEST = 5  # a class with fewer objects keeps them all


def held_out(names: np.ndarray, labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A mask (O,) of the objects held out: `share` of each class, rounded, and at least one.

    Each object draws a number by (seed, name), and those of a class with the lowest numbers are held out: one
    object more or less moves at most one of the others.  A class with fewer than FEWEST objects keeps them all.

    Parameters
    ----------
    names : (O,) text, of the objects
    labels : (O,) integer, their classes; unlabelled objects (-1) count as one class
    share : 0 to less than 1; 0 holds nothing out
    seed : int

    Raises
    ------
    ValueError : a share outside 0 to 1, or 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"SparseDataset.split: share is {share!r}, expected 0 or more and less than 1")
    mask = np.zeros(len(labels), bool)
    if not share:
        return mask
    draws = np.array([keyed_rng(seed, "held out", str(name)).random() for name in names])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) >= FEWEST:
            count = min(max(1, int(share * len(members) + 0.5)), len(members) - 1)
            mask[members[np.argsort(draws[members], kind="stable")[:count]]] = True
    return mask
