"""The splits of a dataset, and the objects of each class held out for validation, drawn by (seed, name)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.random import keyed_rng

if TYPE_CHECKING:
    from sparsenet.data.dataset import SparseDataset

FEWEST = 5  # a class with fewer objects keeps them all


def lowest_draws(names: Sequence[str] | np.ndarray, count: int, seed: int, purpose: str) -> np.ndarray:
    """(count,) int64 indices of the names with the lowest random numbers, each drawn by (seed, purpose, name), so
    that adding or removing a name changes at most one of the others."""
    draws = [keyed_rng(seed, purpose, str(name)).random() for name in names]
    return np.argsort(draws, kind="stable")[:count]


def held_out(names: np.ndarray, labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A mask (O,) of the objects held out: `share` of each class, rounded, and at least one; see `lowest_draws`.

    A class with fewer than FEWEST objects keeps them all.

    Parameters
    ----------
    names : (O,) text, of the objects
    labels : (O,) integer, their classes; unlabelled objects (-1) count as one class
    share : at least 0, less than 1; 0 holds nothing out
    seed : int

    Raises
    ------
    ValueError : the share is below 0, or 1 or more.
    """
    if not isinstance(share, int | float | np.number) or not 0 <= share < 1:
        raise ValueError(f"SparseDataset.split: share is {share!r}, expected 0 or more and less than 1")
    mask = np.zeros(len(labels), bool)
    if not share:
        return mask
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) >= FEWEST:
            count = min(max(1, int(share * len(members) + 0.5)), len(members) - 1)
            mask[members[lowest_draws(names[members], count, seed, "held out")]] = True
    return mask


class SplitColumn(np.ndarray):
    """The split of each sample of a dataset, (S,) text; calling it holds out part of the dataset.

        dataset.split == "train"
        training_set, validation_set = dataset.split(0.1, seed=0)

    Comparisons return plain arrays; a slice or a copy cannot be called.
    """

    _dataset: SparseDataset | None = None

    def __new__(cls, dataset: SparseDataset) -> SplitColumn:
        column = dataset._reader.split[dataset.rows].view(cls)
        column._dataset = dataset
        return column

    def __array_wrap__(self, array: np.ndarray, context: object = None, return_scalar: bool = False) -> np.ndarray:
        return np.asarray(array)  # the result of a comparison

    def __call__(self, share: float, seed: int) -> tuple[SparseDataset, SparseDataset]:
        """Two views: the remaining objects, and the `share` of each class held out, drawn by (seed, name).

        All samples of an object stay together.  Of a class of n objects, share * n are held out, rounded, and at
        least one; a class with fewer than five objects keeps them all.  Adding or removing an object moves at most
        one of the others.

        Raises
        ------
        ValueError : the share is below 0, or 1 or more.
        TypeError : this is a slice or a copy of the column, not a dataset's `split` itself.
        """
        dataset = self._dataset
        if dataset is None:
            raise TypeError("split: a slice or copy of the column cannot be called: call dataset.split(...) itself")
        mask = held_out(dataset.names[dataset.first_poses], dataset.object_labels, share, seed)
        chosen = np.zeros(len(dataset), bool)
        for samples in (dataset.object_samples[number] for number in np.flatnonzero(mask)):
            chosen[samples] = True
        return dataset.select(~chosen), dataset.select(chosen)
