"""Samplers choose the objects of each batch, as stateless functions of (seed, epoch, batch number).

An item is the number of an object (an index into `dataset.object_labels`), or of a sample if
`poses="all"`.  Since nothing depends on earlier draws, training can resume at any batch.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from sparsenet.random import keyed_rng


class Sampler(Protocol):
    """The interface of the `sampler` argument of `SparseDataset.batches`.

    repeats : whether an epoch may show an item more than once; then pose and augmentation are drawn for each
        showing
    """

    repeats: bool

    def __len__(self) -> int:
        """Number of batches in an epoch."""

    def batch(self, index: int, seed: int, epoch: int) -> np.ndarray:
        """The items of batch `index`, (B,) int64."""


class BatchSampler:
    """Each of `count` items once per epoch, in order or shuffled by (seed, epoch).

    The last batch may be smaller.
    """

    repeats = False

    def __init__(self, count: int, batch_size: int, shuffle: bool = False):
        self.count = int(count)
        self.batch_size = _positive("BatchSampler", "batch_size", batch_size)
        self.shuffle = shuffle
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def batch(self, index: int, seed: int, epoch: int) -> np.ndarray:
        order = self._epoch_order(seed, epoch)
        return order[index * self.batch_size:(index + 1) * self.batch_size]

    def _epoch_order(self, seed: int, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.count)
        known = self._order
        if known is None or known[0] != (seed, epoch):
            known = self._order = (seed, epoch), keyed_rng(seed, epoch, "order").permutation(self.count)
        return known[1]


class TripletSampler:
    """Random triplets as in the paper: anchor and positive are a uniform pair of distinct items of
    one class, the negative is a uniform item of a uniformly chosen other class.

    Triplet t of an epoch depends on (seed, epoch, t) alone.  The anchor's class is uniform among
    those with at least two items.  A batch of n triplets has 3n items: n anchors, then their n
    positives, then their n negatives.

    Parameters
    ----------
    labels : (O,) integer, `dataset.object_labels`; items labelled -1 are never drawn
    triplets_per_batch : n
    batches_per_epoch : default: enough to show each item once on average

    Raises
    ------
    ValueError : no class has two items, or there is only one class.
    """

    repeats = True

    def __init__(self, labels: Any, triplets_per_batch: int, batches_per_epoch: int | None = None):
        labels = _labels("TripletSampler", labels)
        self.triplets_per_batch = _positive("TripletSampler", "triplets_per_batch", triplets_per_batch)
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
        self._anchor_classes = [number for number, members in enumerate(self._members) if len(members) >= 2]
        if len(self._members) < 2:
            raise ValueError(f"TripletSampler: labels have {len(self._members)} class, expected 2 or more: a negative "
                             "comes from another class")
        if not self._anchor_classes:
            raise ValueError("TripletSampler: no class has 2 items, expected one or more: anchor and positive are "
                             "distinct items of one class")
        shown = int((labels >= 0).sum())
        self.batches = (max(1, -(-shown // (3 * self.triplets_per_batch))) if batches_per_epoch is None
                        else _positive("TripletSampler", "batches_per_epoch", batches_per_epoch))

    def __len__(self) -> int:
        return self.batches

    def batch(self, index: int, seed: int, epoch: int) -> np.ndarray:
        start = index * self.triplets_per_batch
        triplets = [self.triplet(start + i, seed, epoch) for i in range(self.triplets_per_batch)]
        return np.array(triplets, np.int64).T.ravel()

    def triplet(self, number: int, seed: int, epoch: int) -> tuple[int, int, int]:
        """Anchor, positive, negative: triplet `number` of the epoch."""
        rng = keyed_rng(seed, epoch, "triplet", number)
        home = self._anchor_classes[rng.integers(len(self._anchor_classes))]
        other = _other(rng, len(self._members), home)
        members = self._members[home]
        anchor = int(rng.integers(len(members)))
        positive = _other(rng, len(members), anchor)
        negatives = self._members[other]
        return int(members[anchor]), int(members[positive]), int(negatives[rng.integers(len(negatives))])


class ClassBalancedSampler:
    """Batches of `classes_per_batch` distinct classes with the same number of items each, for mining
    triplets within a batch.

    Classes are drawn uniformly, items of a class uniformly without repetition (unless the class has too
    few).  Items are ordered by class.  Batch b of an epoch depends on (seed, epoch, b).

    Parameters
    ----------
    labels : (O,) integer, `dataset.object_labels`; items labelled -1 are never drawn
    batch_size : number of items, a multiple of classes_per_batch
    batches_per_epoch : default: enough to show each item once on average

    Raises
    ------
    ValueError : the labels have fewer classes, or batch_size is not a multiple of classes_per_batch.
    """

    repeats = True

    def __init__(self, labels: Any, batch_size: int, classes_per_batch: int, batches_per_epoch: int | None = None):
        labels = _labels("ClassBalancedSampler", labels)
        self.batch_size = _positive("ClassBalancedSampler", "batch_size", batch_size)
        self.classes_per_batch = _positive("ClassBalancedSampler", "classes_per_batch", classes_per_batch)
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
        if batch_size % classes_per_batch:
            raise ValueError(f"ClassBalancedSampler: batch_size is {batch_size}, expected a multiple of "
                             f"classes_per_batch = {classes_per_batch}")
        if len(self._members) < classes_per_batch:
            raise ValueError(f"ClassBalancedSampler: classes_per_batch is {classes_per_batch}, the labels have "
                             f"{len(self._members)} classes: ask for fewer")
        shown = int((labels >= 0).sum())
        self.batches = (max(1, -(-shown // self.batch_size)) if batches_per_epoch is None
                        else _positive("ClassBalancedSampler", "batches_per_epoch", batches_per_epoch))

    def __len__(self) -> int:
        return self.batches

    def batch(self, index: int, seed: int, epoch: int) -> np.ndarray:
        rng = keyed_rng(seed, epoch, "balanced", index)
        each = self.batch_size // self.classes_per_batch
        classes = rng.choice(len(self._members), self.classes_per_batch, replace=False)
        return np.concatenate([_draw(rng, self._members[number], each) for number in classes])


def _draw(rng: np.random.Generator, members: np.ndarray, count: int) -> np.ndarray:
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate(rounds)[:count]


def _other(rng: np.random.Generator, count: int, taken: int) -> int:
    """A uniform draw from 0 ... count-1, excluding `taken`."""
    number = int(rng.integers(count - 1))
    return number + (number >= taken)


def _labels(caller: str, labels: Any) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{caller}: labels are {labels.dtype} {labels.shape}, expected (O,) integers: "
                         "pass dataset.object_labels")
    return labels


def _positive(caller: str, name: str, value: int) -> int:
    if not isinstance(value, int | float | np.number) or not value >= 1 or value % 1:
        raise ValueError(f"{caller}: {name} is {value!r}, expected a positive whole number")
    return int(value)
