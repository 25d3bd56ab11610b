"""A part of a dataset held out: stratified, by object, drawn by (seed, name)."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from sparsenet.data import Sample, SparseDataset
from sparsenet.data.holdout import held_out

CELL = np.zeros((1, 3), np.int32)


def names_of(*counts):
    """Names and labels of this many objects of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.array([f"{label}/{number}" for number, label in enumerate(labels)]), labels


@pytest.mark.parametrize(("objects", "share", "count"), [
    (5, 0.1, 1), (14, 0.1, 1), (15, 0.1, 2), (100, 0.1, 10), (100, 0.001, 1), (5, 0.5, 3), (5, 0.99, 4),
    (4, 0.5, 0), (1, 0.5, 0), (100, 0, 0),
])
def test_how_many_of_a_class_are_held_out(objects, share, count):
    assert held_out(*names_of(objects), share, 0).sum() == count


def test_each_class_gives_its_share_whatever_the_others_are():
    names, labels = names_of(20, 4, 60)
    mask = held_out(names, labels, 0.1, 3)
    assert np.bincount(labels[mask], minlength=3).tolist() == [2, 0, 6]
    alone = labels == 2
    np.testing.assert_array_equal(held_out(names[alone], labels[alone], 0.1, 3), mask[alone])


def test_which_ones_depends_on_seed_and_name_and_not_on_the_order():
    names, labels = names_of(50, 50)
    chosen = set(names[held_out(names, labels, 0.2, 0)])
    order = np.random.default_rng(0).permutation(100)
    assert set(names[order][held_out(names[order], labels[order], 0.2, 0)]) == chosen
    assert set(names[held_out(names, labels, 0.2, 1)]) != chosen


def test_another_object_moves_no_more_than_one_of_the_others():
    names, labels = names_of(60)
    before = set(names[:59][held_out(names[:59], labels[:59], 0.2, 0)])
    after = set(names[held_out(names, labels, 0.2, 0)])
    assert len(before - after) <= 1 and len((after - before) - {names[59]}) <= 1


def test_the_poses_of_an_object_stay_together(tmp_path):
    samples = [Sample(CELL, number % 2, f"{number}", "train", number, pose)
               for pose in range(3) for number in range(20)]
    with SparseDataset.create(tmp_path / "x.h5", samples, (2, 2, 2), 2, ["a", "b"]) as dataset:
        stays, held = dataset.split(0.2, 7)
        assert (len(stays), len(held)) == (48, 12) and len(held.object_samples) == 4
        assert not set(stays.object) & set(held.object)
        assert sorted([*stays.rows, *held.rows]) == list(range(60))
        assert np.bincount(held.object_labels).tolist() == [2, 2]
        again = dataset.split(0.2, 7)[1]
        assert again.rows.tolist() == held.rows.tolist()
        everything, nothing = dataset.split(0, 7)
        assert everything.rows.tolist() == dataset.rows.tolist() and len(nothing) == 0


def test_an_empty_dataset_splits_into_two(tmp_path):
    with SparseDataset.create(tmp_path / "x.h5", [], (2, 2, 2), 2, ["a"]) as dataset:
        assert [len(part) for part in dataset.split(0.1, 0)] == [0, 0]


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan"), "0.1"])
def test_a_share_that_is_none_is_refused(tmp_path, share):
    with SparseDataset.create(tmp_path / "x.h5", [Sample(CELL)], (2, 2, 2), 2, []) as dataset, \
            pytest.raises(ValueError, match="share is .*, expected 0 or more and less than 1"):
        dataset.split(share, 0)


def test_the_column_is_text_and_only_the_whole_of_it_holds_out(tmp_path):
    samples = [Sample(np.array([[0, 0, i]]), 0, f"n{i}", "train" if i < 8 else "test") for i in range(10)]
    with SparseDataset.create(tmp_path / "x.h5", samples, (8, 8, 16), 8, ["a"]) as dataset:
        assert dataset.split.tolist() == 8 * ["train"] + 2 * ["test"]
        assert type(dataset.split == "train") is np.ndarray and (dataset.split == "train").sum() == 8
        stays, held = dataset.split(0.2, 0)
        assert (len(stays), len(held)) == (8, 2) and set(stays.split) <= {"train", "test"}
        for part in (dataset.split[2:], dataset.split.copy(), pickle.loads(pickle.dumps(dataset.split))):
            with pytest.raises(TypeError, match="call dataset.split"):
                part(0.2, 0)
