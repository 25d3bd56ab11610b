"""Cross entropy with smoothed labels and class weights against its formula in float64."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet import Tensor, gradcheck
from sparsenet.ops import softmax_cross_entropy, softmax_cross_entropy_with_figures


def formula(logits, labels, smoothing, weights):
    """Row by row, class by class."""
    total = norm = 0.0
    for row, label in zip(np.asarray(logits, np.float64), labels, strict=True):
        log_p = row - row.max() - np.log(np.exp(row - row.max()).sum())
        total -= (1 - smoothing) * weights[label] * log_p[label]
        total -= smoothing / len(row) * sum(weight * one for weight, one in zip(weights, log_p, strict=True))
        norm += weights[label]
    return total / norm


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0, 0.1, 0.9])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_its_formula(dtype, smoothing, weighted, rng):
    logits = Tensor(3 * rng.standard_normal((9, 5)).astype(dtype), requires_grad=True)
    labels = rng.integers(0, 5, 9)
    weights = np.array([0.5, 2, 0, 1, 3]) if weighted else None
    loss = softmax_cross_entropy(logits, labels, smoothing, weights)
    expected = formula(logits.array, labels, smoothing, np.ones(5) if weights is None else weights)
    assert loss.dtype == dtype and loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-6 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize(("smoothing", "weights"), [(0.2, None), (0, [1, 2, 3, 0.5]), (0.3, [1, 2, 0, 0.5])])
def test_its_gradient(smoothing, weights, rng):
    labels = np.array([0, 3, 1, 1, 2])
    logits = Tensor(rng.standard_normal((5, 4)), requires_grad=True)
    assert gradcheck(lambda x: softmax_cross_entropy(x, labels, smoothing, weights) * 3, [logits])


def test_weights_of_one_change_nothing(rng):
    logits = rng.standard_normal((7, 4))
    labels = np.array([0, 1, 2, 3, 3, 0, 1])
    plain, weighted = (Tensor(logits, requires_grad=True) for _ in range(2))
    loss, figures = softmax_cross_entropy_with_figures(plain, labels)
    other, others = softmax_cross_entropy_with_figures(weighted, labels, class_weights=np.ones(4, np.int64))
    loss.backward()
    other.backward()
    np.testing.assert_allclose(others, figures, rtol=1e-14)
    np.testing.assert_allclose(weighted.grad, plain.grad, rtol=1e-12, atol=1e-16)


def test_huge_logits_empty_batches_and_rows_that_do_not_count():
    huge = Tensor(np.array([[1e30, -1e30]], np.float32), requires_grad=True)
    loss = softmax_cross_entropy(huge, [0], 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(5e29, rel=1e-6) and np.isfinite(huge.grad).all()
    empty = Tensor(np.zeros((0, 3), np.float32), requires_grad=True)
    loss, figures = softmax_cross_entropy_with_figures(empty, [], 0.1, [1, 2, 3])
    loss.backward()
    assert loss.item() == 0 and figures.tolist() == [0, 0] and empty.grad.shape == (0, 3)
    none = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    loss = softmax_cross_entropy(none, [0, 0], class_weights=[0, 1, 1])
    loss.backward()
    assert loss.item() == 0 and not none.grad.any()


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"label_smoothing": 1.0}, ValueError, "label_smoothing is 1.0, expected at least 0 and less than 1"),
    ({"label_smoothing": -0.1}, ValueError, "label_smoothing is -0.1"),
    ({"label_smoothing": "a"}, TypeError, "label_smoothing is 'a', expected a number"),
    ({"class_weights": [1, 2]}, ValueError, r"class_weights are int64 of shape \(2,\), expected numbers of shape \(3,"),
    ({"class_weights": ["a", "b", "c"]}, ValueError, "class_weights are <U1"),
    ({"class_weights": [1, -2, 1]}, ValueError, r"class_weights\[1\] is -2.0, expected a finite number of at least 0"),
    ({"class_weights": [1, 2, np.nan]}, ValueError, r"class_weights\[2\] is nan"),
])
def test_settings_out_of_range_are_named(options, error, message):
    with pytest.raises(error, match=f"softmax_cross_entropy: {message}"):
        softmax_cross_entropy(Tensor(np.zeros((2, 3), np.float32)), [0, 1], **options)
