"""Mining against plain loops over all triplets, ties and batches without triplets included."""

import numpy as np
import pytest

from sparsenet import Tensor
from sparsenet.ops import triplet_loss
from sparsenet.ops.triplet_loss import DISTANCES
from sparsenet.training.mining import batch_hard, pairwise_distances, semi_hard


def distances_of(x, distance):
    """(B, B), one pair at a time."""
    result = np.zeros((len(x), len(x)))
    for i, a in enumerate(x.astype(np.float64)):
        for j, b in enumerate(x.astype(np.float64)):
            if distance == "cosine":
                lengths = np.sqrt((a @ a) * (b @ b))
                result[i, j] = 1 - a @ b / lengths if lengths else 1
            else:
                result[i, j] = ((a - b) ** 2).sum() ** (0.5 if distance == "l2" else 1)
    return result


def expected_hard(d, labels):
    triplets = []
    for a, label in enumerate(labels):
        positives = [i for i, other in enumerate(labels) if other == label and i != a]
        negatives = [i for i, other in enumerate(labels) if other != label]
        if positives and negatives:
            triplets.append((a, max(positives, key=lambda i: d[a, i]), min(negatives, key=lambda i: d[a, i])))
    return triplets


def expected_semi_hard(d, labels, margin):
    triplets = []
    for a, label in enumerate(labels):
        for p in (i for i, other in enumerate(labels) if other == label and i != a):
            negatives = [i for i, other in enumerate(labels) if other != label and d[a, p] < d[a, i] < d[a, p] + margin]
            if negatives:
                triplets.append((a, p, min(negatives, key=lambda i: d[a, i])))
    return triplets


def as_list(triplets):
    assert all(part.dtype == np.int64 and part.ndim == 1 for part in triplets)
    return list(zip(*(part.tolist() for part in triplets), strict=True))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("seed", range(5))
def test_against_loops(distance, seed):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((20, 6)).astype(np.float32), rng.integers(0, 5, 20)
    d = distances_of(x, distance)
    assert np.allclose(pairwise_distances(x, distance), d, atol=1e-12)
    assert as_list(batch_hard(x, labels, distance)) == expected_hard(d, labels)
    found = as_list(semi_hard(x, labels, 0.3, distance))
    assert found == expected_semi_hard(d, labels, 0.3) and found


def test_hardest_triplets_of_a_batch_laid_out_on_a_line():
    x, labels = np.array([[0.0], [1.0], [5.0], [2.0], [9.0]]), np.array([0, 0, 0, 1, 1])
    assert as_list(batch_hard(x, labels, "l2")) == [(0, 2, 3), (1, 2, 3), (2, 0, 3), (3, 4, 1), (4, 3, 2)]
    assert as_list(semi_hard(x, labels, 2.5, "l2")) == [(0, 1, 3), (4, 3, 1)]


def test_of_equal_distances_the_first_counts():
    x, labels = np.ones((6, 3)), np.array([0, 0, 0, 1, 1, 1])
    assert as_list(batch_hard(x, labels, "cosine")) == [(0, 1, 3), (1, 0, 3), (2, 0, 3), (3, 4, 0), (4, 3, 0),
                                                        (5, 3, 0)]
    assert as_list(semi_hard(x, labels, 0.5, "cosine")) == []  # no negative is farther than the positive
    x = np.array([[0.0], [1.0], [2.0], [-2.0]])
    assert as_list(semi_hard(x, np.array([0, 0, 1, 2]), 2.5, "l2")) == [(0, 1, 2), (1, 0, 3)]


def test_an_item_without_positive_or_negative_is_no_anchor():
    x = np.arange(4.0)[:, None]
    assert as_list(batch_hard(x, np.array([0, 1, 1, 2]), "l2")) == [(1, 2, 0), (2, 1, 3)]
    for labels in (np.zeros(4, np.int64), np.arange(4)):
        assert as_list(batch_hard(x, labels, "l2")) == [] == as_list(semi_hard(x, labels, 1.0, "l2"))


def test_an_empty_batch_gives_no_triplets():
    x, labels = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    assert as_list(batch_hard(x, labels)) == [] == as_list(semi_hard(x, labels, 0.2))


def test_zero_vectors_have_cosine_distance_one():
    x = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert np.array_equal(pairwise_distances(x, "cosine"), [[1, 1, 1], [1, 1, 1], [1, 1, 0]])


def test_large_batches_go_in_blocks(monkeypatch, rng):
    x, labels = rng.standard_normal((40, 5)), rng.integers(0, 4, 40)
    expected = as_list(semi_hard(x, labels, 0.3)), as_list(batch_hard(x, labels))
    monkeypatch.setattr("sparsenet.training.mining._BLOCK", 700)
    assert (as_list(semi_hard(x, labels, 0.3)), as_list(batch_hard(x, labels))) == expected


def test_mined_triplets_feed_the_loss(rng):
    descriptors = Tensor(rng.standard_normal((12, 4)), requires_grad=True)
    a, p, n = batch_hard(descriptors, Tensor(np.arange(12) % 3), "cosine")
    triplet_loss(descriptors[a], descriptors[p], descriptors[n], 0.2, "cosine").backward()
    assert descriptors.grad.shape == (12, 4) and descriptors.grad.any()


@pytest.mark.parametrize("kind", [np.uint8, np.int32, list, Tensor])
def test_labels_of_any_integers(kind, rng):
    x, labels = rng.standard_normal((12, 4)), rng.integers(0, 3, 12)
    given = kind(labels) if kind is Tensor else labels.tolist() if kind is list else labels.astype(kind)
    assert as_list(batch_hard(x, given)) == as_list(batch_hard(x, labels))
    assert as_list(semi_hard(x, given, 1.0)) == as_list(semi_hard(x, labels, 1.0))


def test_misfits_raise():
    x, labels = np.zeros((3, 2)), np.zeros(3, np.int64)
    with pytest.raises(ValueError, match="batch_hard: distance is 'euclid'"):
        batch_hard(x, labels, "euclid")
    with pytest.raises(ValueError, match=r"labels \(2,\)"):
        batch_hard(x, labels[:2])
    with pytest.raises(TypeError, match="semi_hard: labels are float64, expected integers"):
        semi_hard(x, np.zeros(3), 0.2)
    with pytest.raises(ValueError, match="margin is 0, expected above 0"):
        semi_hard(x, labels, 0)
    x[1, 1] = np.nan
    with pytest.raises(ValueError, match="descriptor of row 1 is not finite"):
        batch_hard(x, labels)
