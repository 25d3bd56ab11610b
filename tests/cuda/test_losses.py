"""Losses on a device: their waits and launches, float16, and figures that are fetched later."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet.backend import to_device, waits
from sparsenet.kernels import counting
from sparsenet.kernels.fetch import fetch_later
from sparsenet.kernels.losses.cuda import ROWS_OF_ONE_BLOCK


def logits_on(where: str, rng, batch: int = 9, dtype: str = "float32") -> sn.Tensor:
    array = rng.standard_normal((batch, 5)).astype(dtype)
    return sn.Tensor(to_device(array, where), requires_grad=True)


def test_what_is_asked_for_early_comes_when_it_is_needed(cuda):
    for where, expected in (("cpu", 0), (cuda, 1)):
        array, before = to_device(np.array([[1.5, np.inf]]), where), waits()
        later = fetch_later(array)
        array = None
        assert waits() == before
        arrived = later()
        assert type(arrived) is np.ndarray and arrived.tolist() == [[1.5, np.inf]]
        assert waits() == before + expected


@pytest.mark.parametrize(("batch", "launches"), [(9, 1), (ROWS_OF_ONE_BLOCK + 1, 2)])
def test_labels_of_the_host_cost_no_wait(cuda, batch, launches, rng):
    logits = logits_on(cuda, rng, batch)
    with counting() as counts:
        loss, figures = sn.ops.softmax_cross_entropy_with_figures(logits, np.zeros(batch, np.int64))
        loss.backward()
    assert counts.waits == 0 and counts.launched == launches
    right = int((to_device(logits.array, "cpu").argmax(axis=1) == 0).sum())
    assert fetch_later(figures)().tolist() == [loss.item(), right]


def test_labels_of_the_device_are_looked_at(cuda, rng):
    logits = logits_on(cuda, rng)
    with counting() as counts:
        sn.ops.softmax_cross_entropy(logits, to_device(np.zeros(9, np.int64), cuda))
    assert counts.waits == 1
    with pytest.raises(ValueError, match="label of row 8 is -1, expected 0 to 4"):
        sn.ops.softmax_cross_entropy(logits, to_device(np.array([0] * 8 + [-1]), cuda))


@pytest.mark.parametrize("distance", ["cosine", "l2", "squared_l2"])
def test_a_triplet_loss_waits_for_nothing(cuda, distance, rng):
    rows = [logits_on(cuda, rng) for _ in range(3)]
    with counting() as counts:
        (sn.ops.triplet_loss(*rows, 0.2, distance) * 2).backward()
    assert counts.waits == 0 and counts.launched == 2
    on_cpu = [sn.Tensor(to_device(row.array, "cpu"), requires_grad=True) for row in rows]
    (sn.ops.triplet_loss(*on_cpu, 0.2, distance) * 2).backward()
    for one, other in zip(rows, on_cpu, strict=True):
        reference.assert_close(to_device(one.grad, "cpu"), other.grad)


@pytest.mark.parametrize("name", ["normface", "arcface", "contrastive", "centre", "triplet-centre", "proxy-anchor"])
@pytest.mark.parametrize("batch", [0, 9])
def test_losses_of_descriptors_wait_for_nothing(cuda, name, batch, rng):
    ops, labels = sn.ops, rng.integers(0, 4, batch)
    learned = (6, 4) if "face" in name else (4, 6)
    losses = {
        "normface": lambda x, w: ops.cosine_softmax(x, w, labels, 14),
        "arcface": lambda x, w: ops.cosine_softmax(x, w, labels, 14, 0.3, "arcface"),
        "contrastive": lambda x, w: ops.supervised_contrastive(x, labels) + 0 * w.sum(),
        "centre": lambda x, w: ops.centre_loss(x, w, labels),
        "triplet-centre": lambda x, w: ops.triplet_centre_loss(x, w, labels, 5.0),
        "proxy-anchor": lambda x, w: ops.proxy_anchor(x, w, labels),
    }
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((batch, 6), learned)]
    there, here = ([sn.Tensor(to_device(array, where), requires_grad=True) for array in arrays]
                   for where in (cuda, "cpu"))
    with counting() as counts:
        loss = losses[name](*there)
        (loss * 2).backward()
    assert counts.waits == 0
    expected = losses[name](*here)
    (expected * 2).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(there, here, strict=True):
        reference.assert_close(to_device(one.grad, "cpu"), other.grad)


def test_a_cosine_classifier_on_a_device(cuda, rng):
    x, weight = rng.standard_normal((9, 6)).astype("f4"), rng.standard_normal((6, 4)).astype("f4")
    there, here = ([sn.Tensor(to_device(array, where), requires_grad=True) for array in (x, weight)]
                   for where in (cuda, "cpu"))
    for tensors in (there, here):
        (sn.ops.cosine_linear(*tensors, 14) ** 2).sum().backward()
    for one, other in zip(there, here, strict=True):
        reference.assert_close(to_device(one.grad, "cpu"), other.grad)


def test_float16_is_computed_with_in_float32(cuda, rng):
    logits, labels = logits_on(cuda, rng, dtype="float16"), rng.integers(0, 5, 9)
    loss = sn.ops.softmax_cross_entropy(logits, labels)
    expected, gradient, _ = reference.softmax_cross_entropy(to_device(logits.array, "cpu").astype(np.float64), labels)
    (loss * 1024).backward()
    assert loss.dtype == np.float32 and loss.item() == pytest.approx(expected, rel=1e-6)
    assert logits.grad.dtype == np.float16
    assert reference.relative_error(to_device(logits.grad, "cpu"), 1024 * gradient) < 1e-3
    rows = [logits_on(cuda, rng, dtype="float16") for _ in range(3)]
    sn.ops.triplet_loss(*rows, 0.2).backward()
    assert all(row.grad.dtype == np.float16 for row in rows)
