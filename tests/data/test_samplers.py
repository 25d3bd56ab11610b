"""Samplers: functions of (seed, epoch, number), with the distribution they promise."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from sparsenet.data import BatchSampler, ClassBalancedSampler, TripletSampler

LABELS = np.array([2, 0, 0, 2, 2, 5, -1, 0, 7, 7, -1, 0])  # class 5 has one item, two items have no class


def epoch_of(sampler, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    return [sampler.batch(index, seed, epoch).tolist() for index in range(len(sampler))]


def test_batches_in_order():
    assert epoch_of(BatchSampler(5, 2)) == [[0, 1], [2, 3], [4]]
    assert epoch_of(BatchSampler(0, 2)) == []


def test_shuffled_batches_show_each_item_once_and_depend_on_seed_and_epoch_alone():
    sampler = BatchSampler(100, 7, shuffle=True)
    first = epoch_of(sampler, 1, 2)
    assert sorted(sum(first, [])) == list(range(100)) and [len(batch) for batch in first] == [7] * 14 + [2]
    assert epoch_of(sampler, 1, 3) != first and epoch_of(sampler, 2, 2) != first
    again = BatchSampler(100, 7, shuffle=True)
    assert [again.batch(index, 1, 2).tolist() for index in reversed(range(15))] == first[::-1]


def test_triplets_are_of_the_right_classes():
    sampler = TripletSampler(LABELS, 4, 50)
    for batch in epoch_of(sampler):
        anchors, positives, negatives = np.array(batch).reshape(3, 4)
        assert (anchors != positives).all()
        assert (LABELS[anchors] == LABELS[positives]).all() and (LABELS[anchors] != LABELS[negatives]).all()
        assert (LABELS[batch] >= 0).all() and 5 not in anchors


def test_triplets_are_uniform():
    sampler = TripletSampler(LABELS, 1, 1)
    count = 12_000
    triplets = np.array([sampler.triplet(number, 0, 0) for number in range(count)])
    labels = LABELS[triplets]
    for label in (0, 2, 7):  # the three classes with two items or more
        assert abs((labels[:, 0] == label).mean() - 1 / 3) < 0.02
        for other in {0, 2, 5, 7} - {label}:
            assert abs((labels[labels[:, 0] == label, 2] == other).mean() - 1 / 3) < 0.03
    pairs = triplets[labels[:, 0] == 0][:, :2]
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert len(counts) == 12 and counts.max() / counts.min() < 1.4
    _, counts = np.unique(triplets[labels[:, 2] == 2][:, 2], return_counts=True)
    assert len(counts) == 3 and counts.max() / counts.min() < 1.15


def test_triplets_do_not_depend_on_the_batch_size():
    small, large = TripletSampler(LABELS, 2, 6), TripletSampler(LABELS, 6, 2)

    def triplets(sampler) -> list:
        return [row for batch in epoch_of(sampler, 3, 1) for row in np.array(batch).reshape(3, -1).T.tolist()]

    assert triplets(small) == triplets(large)
    assert epoch_of(small, 3, 1) != epoch_of(small, 3, 2) != epoch_of(small, 4, 2)


def test_an_epoch_of_triplets_shows_each_item_once_on_average():
    assert len(TripletSampler(np.arange(900) % 10, 30)) == 10
    assert len(TripletSampler([0, 0, 1], 30)) == 1


@pytest.mark.parametrize(("labels", "message"), [
    ([0, 0, 0], "1 class, expected 2 or more"), ([], "0 class"), ([0, 1, 2], "no class has 2 items"),
    ([0.0, 1.0], "expected .O,. integers"), ([[0, 0, 1]], "expected .O,. integers"),
])
def test_labels_without_triplets_are_refused(labels: list, message: str):
    with pytest.raises(ValueError, match=message):
        TripletSampler(np.array(labels) if labels else np.zeros(0, int), 2)


@pytest.mark.parametrize("sampler", [
    BatchSampler(100, 20, shuffle=True), TripletSampler(np.arange(120) % 6, 2, 5),
    ClassBalancedSampler(np.arange(120) % 6, 12, 2, 5)], ids=lambda sampler: type(sampler).__name__)
def test_a_batch_depends_on_seed_epoch_and_number_each(sampler):
    keys = [(index, seed, epoch) for index in range(3) for seed in range(3) for epoch in range(3)]
    drawn = [tuple(sampler.batch(*key).tolist()) for key in keys]
    assert len(set(drawn)) == len(keys)
    again = copy.deepcopy(sampler)
    assert [tuple(again.batch(*key).tolist()) for key in reversed(keys)] == drawn[::-1]


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
@pytest.mark.parametrize("sampler", [BatchSampler(9, 2, shuffle=True), TripletSampler(LABELS, 2, 5),
                                     ClassBalancedSampler(LABELS, 6, 2, 5)], ids=lambda sampler: type(sampler).__name__)
def test_samplers_are_copied_before_and_after_use(sampler, twin):
    before = twin(sampler)
    expected = epoch_of(sampler, 1, 2)
    assert epoch_of(before, 1, 2) == epoch_of(twin(sampler), 1, 2) == expected


def test_balanced_batches():
    sampler = ClassBalancedSampler(LABELS, 6, 2, 200)
    seen = set()
    for batch in epoch_of(sampler):
        labels = LABELS[batch]
        assert (labels[:3] == labels[0]).all() and (labels[3:] == labels[3]).all() and labels[0] != labels[3]
        assert -1 not in labels
        assert len(set(batch[:3])) == min(3, (LABELS == labels[0]).sum())
        seen |= set(labels.tolist())
    assert seen == {0, 2, 5, 7}
    assert sampler.batch(17, 1, 2).tolist() == sampler.batch(17, 1, 2).tolist()
    assert len(ClassBalancedSampler(np.arange(900) % 10, 90, 10)) == 10
    with pytest.raises(ValueError, match="multiple of classes_per_batch = 4"):
        ClassBalancedSampler(LABELS, 6, 4)
    with pytest.raises(ValueError, match="the labels have 4 classes"):
        ClassBalancedSampler(LABELS, 10, 5)
