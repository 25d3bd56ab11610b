"""Losses written with the operations of Tensor: checked, equal to the built-in ones, and training a network."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import Tensor, gradcheck


def distances(vectors):
    """(B, C) -> (B, B), Euclidean."""
    differences = vectors.reshape(len(vectors), 1, -1) - vectors.reshape(1, len(vectors), -1)
    return ((differences * differences).sum(axis=2) + 1e-6).sqrt()


def contrastive_loss(vectors, labels, margin=1.0):
    """Hadsell, Chopra, LeCun 2006: d^2 for a pair of one class, max(0, margin - d)^2 for the others."""
    labels = Tensor(labels)
    same = labels.reshape(-1, 1) == labels.reshape(1, -1)
    distance = distances(vectors)
    return sn.where(same, distance**2, (margin - distance).clip(min=0) ** 2).mean()


def cross_entropy(logits, labels):
    """log sum exp, shifted by the largest logit, less the logit of the label."""
    largest = logits.max(axis=1, keepdims=True).detach()
    log_sum = (logits - largest).exp().sum(axis=1).log() + largest.reshape(-1)
    return (log_sum - logits[np.arange(len(labels)), labels]).mean()


def info_nce(a, b, temperature=0.5):
    """van den Oord, Li, Vinyals 2018: each row of `a` finds its row of `b`, and the other way round."""
    a, b = (x / (x * x).sum(axis=1, keepdims=True).sqrt() for x in (a, b))
    similarity = a @ b.T / temperature
    return cross_entropy(sn.concatenate([similarity, similarity.T]), np.tile(np.arange(len(similarity)), 2))


LABELS = np.array([0, 1, 1, 2, 0])


@pytest.mark.parametrize("loss", [
    lambda x, y: contrastive_loss(x, LABELS, margin=2.0),
    lambda x, y: cross_entropy(x, LABELS % 3),
    info_nce,
    lambda x, y: (sn.maximum(x, y).tanh() * sn.minimum(x, 0.1).sigmoid() + abs(x - y)).mean(),
    lambda x, y: -(x.sigmoid().log() * (y > 0) + (1 - x.sigmoid()).log() * (y <= 0)).mean(),
], ids=["contrastive", "cross entropy", "InfoNCE", "mixture", "binary cross entropy"])
def test_gradients(loss, rng):
    inputs = [Tensor(rng.standard_normal((5, 3)), requires_grad=True) for _ in range(2)]
    assert gradcheck(loss, inputs)


def test_equals_the_built_in_cross_entropy(rng):
    grads = []
    for loss in (cross_entropy, sn.ops.softmax_cross_entropy):
        logits = Tensor(10 * np.random.default_rng(1).standard_normal((5, 4)), requires_grad=True)
        value = loss(logits, LABELS)
        value.backward()
        grads.append((value.item(), logits.grad))
    assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-13)
    np.testing.assert_allclose(grads[0][1], grads[1][1], atol=1e-14)


def test_a_network_learns_by_a_contrastive_loss(rng):
    """Bars along one of three axes, anywhere in the grid: afterwards those of one class lie together."""
    labels = np.arange(12) % 3
    grids = np.zeros((12, 1, 6, 6, 6), np.float32)
    for grid, label in zip(grids, labels, strict=True):
        place = [slice(i, i + 1) for i in rng.integers(0, 6, 3)]
        place[label] = slice(None)
        grid[0][tuple(place)] = 1
    x = sn.SparseTensor.from_dense(grids)

    def network(dtype):
        return sn.nn.Sequential(
            sn.nn.SparseConv(1, 8, 3, rng=0), sn.nn.LeakyReLU(0.1), sn.nn.SparseConv(8, 8, 2, rng=1),
            sn.nn.LeakyReLU(0.1), sn.nn.GlobalPool(), sn.nn.Linear(8, 2, rng=2)).to(dtype)

    exact = network(np.float64)
    for layer in exact.children():
        if hasattr(layer, "bias"):
            layer.bias.array = rng.uniform(0.1, 0.5, layer.bias.shape)  # away from the corner of LeakyReLU
    assert gradcheck(lambda: contrastive_loss(exact(x.to(np.float64)), labels), [],
                     parameters=dict(exact.named_parameters()))

    net, losses = network(np.float32), []
    optimizer = sn.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        loss = contrastive_loss(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 50
    with sn.no_grad():
        nearest = distances(net(x)) + 1e3 * np.eye(12, dtype=np.float32)
    assert np.array_equal(labels[nearest.argmin(axis=1).numpy()], labels)
