"""Softmax cross-entropy and its gradient against plain loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
from reference import TOLERANCE, assert_close, softmax_cross_entropy

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.losses import cuda as losses
from sparsenet.kernels.losses.cuda import ROWS_OF_ONE_BLOCK
from sparsenet.kernels.losses.softmax_cross_entropy import _rows_float


def check(launch, logits, labels):
    loss, figures, gradient = launch("softmax_cross_entropy", logits, labels, True)
    expected, expected_gradient, right = softmax_cross_entropy(logits.astype(np.float64), labels)
    assert loss.shape == () and loss.dtype == gradient.dtype == logits.dtype and figures.dtype == np.float64
    assert float(loss) == pytest.approx(expected, rel=TOLERANCE[logits.dtype], abs=1e-7)
    assert gradient.shape == logits.shape  # probabilities, 1 less at the label, over B: as exact as they are
    assert np.abs(gradient - expected_gradient).max() <= TOLERANCE[logits.dtype] / len(logits)
    assert figures.tolist() == [float(loss), right]


@pytest.mark.parametrize(("batch", "classes"), [(1, 1), (1, 2), (1, 70), (5, 15), (5, 16), (33, 1), (33, 17), (33, 33),
                                                (40, 40), (64, 64), (20, 127), (20, 128), (20, 129)])
def test_loss_and_gradient(launch, batch, classes, dtype, rng):
    check(launch, (3 * rng.standard_normal((batch, classes))).astype(dtype), rng.integers(0, classes, batch))


@pytest.mark.parametrize("blocks", [2, 2048])
def test_more_rows_than_one_block_takes(launch, dtype, rng, monkeypatch, blocks):
    """On a few blocks each warp takes row after row."""
    monkeypatch.setattr(losses, "_MAX_BLOCKS", blocks)
    batch = ROWS_OF_ONE_BLOCK + 3
    check(launch, rng.standard_normal((batch, 5)).astype(dtype), rng.integers(0, 5, batch))


def test_blocks_of_rows_join(rng, dtype):
    check(kernels.launch, rng.standard_normal((80_000, 7)).astype(dtype), rng.integers(0, 7, 80_000))
    check(kernels.launch, rng.standard_normal((3, 270_000)).astype(dtype), rng.integers(0, 270_000, 3))


def test_numbers_of_classes_are_told_apart_by_the_cache_of_compiled_code():
    """Specializations have the same argument types, so their names must differ."""
    names = {_rows_float(classes).__qualname__ for classes in (0, 10, 40)}
    assert len(names) == 3 and _rows_float(10) is _rows_float(10)


def test_logits_of_any_size(launch, dtype):
    logits = np.array([[1e4, 0, -1e4], [-1e30, 1e30, 0], [-3e38, 3e38, 3e38], [1e-30, -1e-30, 0], [-3e38] * 3], dtype)
    loss, figures, gradient = launch("softmax_cross_entropy", logits, np.array([0, 1, 2, 0, 1]), True)
    assert float(loss) == pytest.approx((np.log(2) + 2 * np.log(3)) / 5)
    thirds = np.array([1, 1, 1]) / 3
    assert_close(gradient, np.array([[0] * 3, [0] * 3, [0, 0.5, -0.5], thirds - [1, 0, 0], thirds - [0, 1, 0]]) / 5)
    assert figures[1] == 3  # in the third and the fifth row a class before the label is as large


def test_a_wrong_label_costs_what_lies_between(launch, dtype):
    loss, figures, gradient = launch("softmax_cross_entropy", np.array([[1e4, -1e4]], dtype), np.array([1]), True)
    assert float(loss) == 2e4 and gradient.tolist() == [[1, -1]] and figures.tolist() == [2e4, 0]


def test_of_equal_logits_the_first_is_the_answer(launch, dtype):
    logits = np.zeros((40, 40), dtype)
    logits[:, 1::2] = 1
    assert launch("softmax_cross_entropy", logits, np.arange(40), False)[1][1] == 1  # label 1


def test_without_gradient_the_loss_has_the_same_bits(launch, dtype, rng):
    logits, labels = rng.standard_normal((37, 21)).astype(dtype), rng.integers(0, 21, 37)
    before = logits.copy()
    loss, figures, gradient = launch("softmax_cross_entropy", logits, labels, False)
    assert gradient is None and loss == launch("softmax_cross_entropy", logits, labels, True)[0]
    assert float(loss) == figures[0] and np.array_equal(logits, before)


def test_no_rows_have_no_loss(launch, dtype):
    loss, figures, gradient = launch("softmax_cross_entropy", np.zeros((0, 4), dtype), np.zeros(0, np.int64), True)
    assert loss == 0 and figures.tolist() == [0, 0] and gradient.shape == (0, 4)


@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf])
def test_what_is_not_finite_shows_in_the_loss(launch, number, dtype, rng):
    for column in (0, 3, 40):
        logits = rng.standard_normal((3, 41)).astype(dtype)
        logits[1, column] = number
        assert np.isnan(launch("softmax_cross_entropy", logits, np.array([0, 3, 7]), False)[0])


@pytest.mark.parametrize("label", [-1, 5, 2**40])
def test_a_label_that_is_no_class_makes_the_loss_nan(launch, label, dtype):
    assert np.isnan(launch("softmax_cross_entropy", np.zeros((3, 5), dtype), np.array([0, label, 4]), True)[0])


def test_the_same_bits_for_any_number_of_threads(dtype, rng):
    logits, labels = rng.standard_normal((20_000, 11)).astype(dtype), rng.integers(0, 11, 20_000)
    before, results = get_num_threads(), set()
    try:
        for number in (1, 2, 5):
            set_num_threads(number)
            parts = kernels.launch("softmax_cross_entropy", logits, labels, True)
            results.add(b"".join(part.tobytes() for part in parts))
    finally:
        set_num_threads(before)
    assert len(results) == 1


@pytest.mark.parametrize("factor", [1, 3, 0, -0.5])
@pytest.mark.parametrize("size", [0, 1000, 70_000])
def test_a_gradient_is_scaled_in_place(launch, size, factor, dtype, rng):
    gradient = rng.standard_normal(size).astype(dtype)
    expected = gradient * dtype.type(factor)
    assert launch("scale_gradient", gradient, np.array(factor, dtype)) is None
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize(("logits", "labels", "error", "message"), [
    (np.zeros((2, 0)), np.zeros(2, np.int64), ValueError, r"logits has shape \(2, 0\), expected at least one class"),
    (np.zeros((2, 3)), np.zeros(3, np.int64), ValueError, r"labels has shape \(3,\), expected \(B\) \(B = 2 by logits"),
    (np.zeros((2, 3)), np.zeros(2, np.int32), TypeError, "labels is int32, expected int64"),
    (np.zeros((2, 6))[:, ::2], np.zeros(2, np.int64), ValueError, "logits is not C-contiguous"),
])
def test_misfits_raise(logits, labels, error, message):
    with pytest.raises(error, match="softmax_cross_entropy: " + message):
        kernels.launch("softmax_cross_entropy", logits, labels, True)
