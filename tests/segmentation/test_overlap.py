"""Overlaps against scikit-learn's and by hand; what is ignored, empty or out of range."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, precision_score, recall_score

import sparsenet as sn
from sparsenet.segmentation import Tally, evaluate

NAMES = ["a", "b", "c", "d"]


def test_all_figures_are_scikit_learns(rng):
    labels, predicted = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    found = evaluate(predicted, labels, NAMES)
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, predicted))
    for name, function in (("IoU", jaccard_score), ("recall", recall_score), ("precision", precision_score)):
        np.testing.assert_allclose(getattr(found, name), function(labels, predicted, average=None), rtol=1e-15)
    assert found.mIoU == pytest.approx(jaccard_score(labels, predicted, average="macro"), rel=1e-15)
    assert found.accuracy == accuracy_score(labels, predicted)
    assert sn.segmentation.evaluate is evaluate


def test_shapes_are_counted_together_and_each_alone(rng):
    labels, predicted = ([rng.integers(0, 4, count) for count in (5, 1, 40, 0)] for _ in range(2))
    found, whole = evaluate(predicted, labels, 4), evaluate(np.concatenate(predicted), np.concatenate(labels), 4)
    np.testing.assert_array_equal(found.confusion, whole.confusion)
    alone = [evaluate(one, true, 4).mIoU for one, true in zip(predicted, labels, strict=True)]
    np.testing.assert_array_equal(found.shape_IoU, alone)
    assert np.isnan(alone[3]) and found.shape_mIoU == np.mean(alone[:3]) and found.classes == ["0", "1", "2", "3"]
    assert whole.shape_mIoU == whole.mIoU == found.mIoU


def test_ignored_sites_count_nowhere(rng):
    labels, scores = rng.integers(-1, 4, 200), rng.standard_normal((200, 4))
    kept = labels >= 0
    found = evaluate(scores, labels, NAMES)
    assert found.figures() == evaluate(scores[kept], labels[kept], NAMES).figures()
    nine = evaluate(scores.argmax(axis=1), np.where(kept, labels, 9), NAMES, ignore_label=9)
    assert found.figures() == nine.figures()


def test_a_class_that_is_nowhere_has_no_overlap_and_one_that_is_only_predicted_has_none():
    found = evaluate([0, 0, 1, 1], [0, 0, 0, 1], 3)
    np.testing.assert_allclose(found.IoU, [2 / 3, 1 / 2, np.nan])
    assert found.mIoU == pytest.approx(7 / 12)
    assert evaluate([0, 2], [0, 0], 3).IoU.tolist()[::2] == [0.5, 0.0]


def test_it_prints_and_goes_to_json():
    found = evaluate([[0, 0, 1, 1], [2]], [[0, 0, 0, 1], [-1]], ["seat", "leg", "lid"])
    lines = str(found).splitlines()
    assert lines[0].split() == ["class", "sites", "IoU,", "%", "recall,", "%", "precision,", "%"]
    assert lines[2].split() == ["seat", "3", "66.67", "66.67", "100.00"] and lines[4].split() == ["lid", "0"]
    assert lines[-2].split() == ["mean", "4", "58.33", "83.33", "75.00"]
    assert lines[-1] == "accuracy 75.00%, mean IoU of a shape 58.33%, over 2 shapes"
    figures = json.loads(json.dumps(found.figures(), allow_nan=False))
    assert figures["per_class"]["lid"] == {"sites": 0, "IoU": None, "recall": None, "precision": None}
    assert (figures["sites"], figures["shapes"], figures["accuracy"]) == (4, 2, 0.75)


def test_nothing_at_all():
    for found in (evaluate([], [], 2), evaluate(np.zeros(0, int), np.zeros(0, int), 2), Tally(["a"]).evaluation()):
        assert np.isnan([found.mIoU, found.accuracy, found.shape_mIoU]).all() and found.figures()["mIoU"] is None


@pytest.mark.parametrize(("predicted", "labels", "message"), [
    ([0, 1], [0], r"predicted have shape \(2,\), labels \(1,\): expected one of each for every site"),
    ([[0]], [[0], [1]], "predicted are of 1 shapes, labels of 2"),
    ([0, 1], [0, 2], "labels go from 0 to 2, expected 0 to 1"),
    ([0, 5], [0, 1], "predictions go from 0 to 5, expected 0 to 1"),
])
def test_what_does_not_fit_is_refused(predicted, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(predicted, labels, 2)
