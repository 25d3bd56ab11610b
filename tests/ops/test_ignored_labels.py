"""Rows with an ignored label are as if they were not there."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet import Tensor, gradcheck
from sparsenet.ops import softmax_cross_entropy, softmax_cross_entropy_with_figures

SETTINGS = [{}, {"label_smoothing": 0.2}, {"class_weights": [1, 2, 0, 0.5]}]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ignored", [-1, 3])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_is_the_loss_of_the_other_rows(settings, ignored, dtype, rng):
    labels = np.array([0, ignored, 2, 1, ignored, ignored, 2])
    kept = labels != ignored
    rows = rng.standard_normal((7, 4)).astype(dtype)
    logits, others = (Tensor(array, requires_grad=True) for array in (rows, rows[kept]))
    loss, figures = softmax_cross_entropy_with_figures(logits, labels, ignore_label=ignored, **settings)
    expected, its_figures = softmax_cross_entropy_with_figures(others, labels[kept], **settings)
    loss.backward()
    expected.backward()
    assert loss.item() == expected.item() and figures.tolist() == its_figures.tolist()
    assert not logits.grad[~kept].any() and np.array_equal(logits.grad[kept], others.grad)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_its_gradient(settings, rng):
    logits = Tensor(rng.standard_normal((5, 4)), requires_grad=True)
    assert gradcheck(lambda x: softmax_cross_entropy(x, [0, -1, 3, 1, -1], ignore_label=-1, **settings) * 3, [logits])


@pytest.mark.parametrize("labels", [[-1, -1], np.array([255, 255], np.uint8)])
def test_if_no_row_counts_the_loss_is_zero(labels):
    logits = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    loss = softmax_cross_entropy(logits, labels, ignore_label=int(labels[0]))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_if_none_is_ignored_nothing_changes(rng):
    logits, labels = Tensor(rng.standard_normal((6, 3))), rng.integers(0, 3, 6)
    assert softmax_cross_entropy(logits, labels, ignore_label=-1).item() == softmax_cross_entropy(logits, labels).item()


def test_errors_name_rows_as_they_were_given():
    logits = Tensor(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="label of row 3 is 5, expected 0 to 2"):
        softmax_cross_entropy(logits, [-1, -1, 0, 5], ignore_label=-1)
    with pytest.raises(ValueError, match=r"label of row 0 is -1"):
        softmax_cross_entropy(logits, [-1, 1, 0, 9], ignore_label=9)
    with pytest.raises(ValueError, match=r"labels have shape \(3,\), expected \(4,\)"):
        softmax_cross_entropy(logits, [-1, 1, 0], ignore_label=-1)
    with pytest.raises(TypeError, match="ignore_label is 'x', expected a whole number or None"):
        softmax_cross_entropy(logits, [0, 1, 0, 0], ignore_label="x")
