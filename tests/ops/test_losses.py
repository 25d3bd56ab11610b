"""Softmax cross entropy and triplet loss against plain loops in float64, and their gradients."""

import numpy as np
import pytest
import reference
from reference import TOLERANCE, assert_close

from sparsenet import Tensor, gradcheck
from sparsenet.ops import softmax_cross_entropy, softmax_cross_entropy_with_figures, triplet_loss
from sparsenet.ops.triplet_loss import DISTANCES

# ---- softmax cross entropy ----


def cross_entropy(logits, labels):
    """Loss and gradient, row by row in float64."""
    return reference.softmax_cross_entropy(logits.astype(np.float64), labels)[:2]


@pytest.mark.parametrize("batch, classes", [(1, 1), (1, 5), (7, 3), (64, 40)])
def test_cross_entropy(batch, classes, dtype, rng):
    logits = Tensor((3 * rng.standard_normal((batch, classes))).astype(dtype), requires_grad=True)
    labels = rng.integers(0, classes, batch)
    loss = softmax_cross_entropy(logits, labels)
    expected, gradient = cross_entropy(logits.array, labels)
    assert loss.shape == () and loss.dtype == dtype
    assert loss.item() == pytest.approx(expected, rel=TOLERANCE[np.dtype(dtype)], abs=1e-7)
    loss.backward()
    assert logits.grad.dtype == dtype
    assert_close(logits.grad, gradient)


def test_cross_entropy_gradcheck(rng):
    logits = Tensor(rng.standard_normal((6, 4)), requires_grad=True)
    assert gradcheck(lambda x: softmax_cross_entropy(x, np.array([0, 3, 1, 1, 2, 0])), [logits])


def test_cross_entropy_of_huge_logits_is_finite(dtype):
    logits = Tensor(np.array([[1e4, 0, -1e4], [-1e30, 1e30, 0]], dtype), requires_grad=True)
    loss = softmax_cross_entropy(logits, np.array([1, 1]))
    assert loss.item() == 5e3
    loss.backward()
    assert np.array_equal(logits.grad, np.array([[0.5, -0.5, 0], [0, 0, 0]], dtype))


def test_cross_entropy_of_an_empty_batch_is_zero():
    logits = Tensor(np.zeros((0, 4), np.float32), requires_grad=True)
    loss = softmax_cross_entropy(logits, np.zeros(0, np.int64))
    loss.backward()
    assert loss.item() == 0 and logits.grad.shape == (0, 4)


def test_cross_entropy_scales_with_the_gradient_it_gets(rng):
    logits = [Tensor(rng.standard_normal((3, 4)), requires_grad=True)]
    logits.append(Tensor(logits[0].array, requires_grad=True))
    softmax_cross_entropy(logits[0], np.array([0, 1, 2])).backward()
    (softmax_cross_entropy(logits[1], Tensor(np.array([0, 1, 2]))) * 3).backward()
    assert_close(logits[1].grad, 3 * logits[0].grad)


def test_figures_tell_the_loss_and_how_many_are_right(dtype):
    logits = Tensor(np.array([[2, 1, 0], [0, 3, 3], [0, 1, 1], [5, 5, 5]], dtype), requires_grad=True)
    loss, figures = softmax_cross_entropy_with_figures(logits, np.array([0, 1, 2, 0]))
    assert figures.tolist() == [loss.item(), 3]  # of equal logits the first is the answer
    loss.backward()
    assert logits.grad.dtype == dtype


def test_cross_entropy_takes_logits_and_labels_of_any_layout(rng):
    logits, labels = rng.standard_normal((4, 6)), rng.integers(0, 4, 12)
    turned = Tensor(logits.T, requires_grad=True)
    loss = softmax_cross_entropy(turned, labels[::2])
    assert loss.item() == pytest.approx(cross_entropy(logits.T, labels[::2])[0])
    loss.backward()
    assert_close(turned.grad, cross_entropy(logits.T, labels[::2])[1])


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", list, tuple, Tensor])
def test_cross_entropy_takes_labels_of_any_integers(kind, rng):
    logits, labels = rng.standard_normal((5, 4)), np.array([3, 0, 1, 2, 3])
    given = labels.astype(kind) if isinstance(kind, str) else kind(labels if kind is Tensor else labels.tolist())
    loss, figures = softmax_cross_entropy_with_figures(Tensor(logits), given)
    expected, figures_expected = softmax_cross_entropy_with_figures(Tensor(logits), labels)
    assert loss.item() == expected.item() and figures.tolist() == figures_expected.tolist()


@pytest.mark.parametrize("labels", [[], (), np.zeros(0, np.uint8)])
def test_cross_entropy_of_no_labels_at_all(labels):
    assert softmax_cross_entropy(Tensor(np.zeros((0, 4), np.float32)), labels).item() == 0


def test_cross_entropy_names_what_does_not_fit():
    logits = Tensor(np.zeros((2, 3), np.float32))
    for labels, kind in [(np.zeros(2), "float64"), ([0.0, 1.0], "float64"), (Tensor([0.0, 1.0]), "float32"),
                         (np.zeros(2, bool), "bool"), (["a", "b"], "<U1"), ("ab", "str"), (None, "NoneType")]:
        with pytest.raises(TypeError, match=f"softmax_cross_entropy: labels are {kind}, expected integers"):
            softmax_cross_entropy(logits, labels)
    with pytest.raises(ValueError, match=r"softmax_cross_entropy: labels: lists side by side differ in length"):
        softmax_cross_entropy(logits, [[0], [1, 0]])
    with pytest.raises(ValueError, match=r"labels have shape \(3,\), expected \(2,\)"):
        softmax_cross_entropy(logits, np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="label of row 1 is 3, expected 0 to 2"):
        softmax_cross_entropy(logits, np.array([0, 3]))
    with pytest.raises(ValueError, match="label of row 0 is -1"):
        softmax_cross_entropy(logits, np.array([-1, 0]))
    for array, number in [(np.array([0, 255], "u1"), 255), (np.array([1, -128], "i1"), -128),
                          (np.array([2, 2**64 - 1], "u8"), 2**64 - 1), (np.array([0, 2**63], "u8"), 2**63),
                          (np.array([0, 2**32], "u8"), 2**32)]:
        with pytest.raises(ValueError, match=f"label of row 1 is {number}, expected 0 to 2: the logits have 3 classes"):
            softmax_cross_entropy(logits, array)
    with pytest.raises(ValueError, match=r"logits have shape \(2, 0\)"):
        softmax_cross_entropy(Tensor(np.zeros((2, 0))), np.array([0, 0]))


# ---- triplet loss ----


def expected_loss(anchor, positive, negative, margin, distance):
    rows = (x.astype(np.float64) for x in (anchor, positive, negative))
    return reference.triplet_loss(*rows, margin, distance)[0]


def triplets(rng, count, channels, dtype=np.float64):
    return [Tensor(rng.standard_normal((count, channels)).astype(dtype), requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("count, channels", [(1, 1), (1, 7), (50, 16)])
def test_triplet_loss(distance, count, channels, dtype, rng):
    tensors = triplets(rng, count, channels, dtype)
    loss = triplet_loss(*tensors, 0.3, distance)
    expected = expected_loss(*(t.array for t in tensors), 0.3, distance)
    assert loss.shape == () and loss.dtype == dtype
    assert loss.item() == pytest.approx(expected, rel=TOLERANCE[np.dtype(dtype)])
    loss.backward()
    assert all(t.grad.dtype == dtype and t.grad.shape == t.shape for t in tensors)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("margin", [0.0, 0.2, 100.0])
def test_triplet_loss_gradcheck(distance, margin, rng):
    assert gradcheck(lambda a, p, n: triplet_loss(a, p, n, margin, distance), triplets(rng, 8, 5))


@pytest.mark.parametrize("distance", DISTANCES)
def test_rows_gathered_from_one_batch_add_their_gradients(distance, rng):
    descriptors = Tensor(rng.standard_normal((6, 4)), requires_grad=True)
    a, p, n = np.array([0, 0, 1, 5]), np.array([1, 2, 0, 4]), np.array([3, 3, 4, 0])
    assert gradcheck(lambda d: triplet_loss(d[a], d[p], d[n], 0.5, distance), [descriptors])


@pytest.mark.parametrize("distance", DISTANCES)
def test_satisfied_triplets_have_no_loss_and_no_gradient(distance):
    anchor, negative = np.array([[1.0, 0.0]]), np.array([[-1.0, 0.5]])
    tensors = [Tensor(x, requires_grad=True) for x in (anchor, anchor + 0.01, negative)]
    loss = triplet_loss(*tensors, 0.1, distance)
    loss.backward()
    assert loss.item() == 0 and not any(t.grad.any() for t in tensors)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient_is_zero_at_zero_distance(distance, dtype, rng):
    x = rng.standard_normal((4, 6)).astype(dtype)
    tensors = [Tensor(x.copy(), requires_grad=True) for _ in range(3)]
    loss = triplet_loss(*tensors, 0.25, distance)
    loss.backward()
    assert loss.item() == 0.25 and not any(t.grad.any() for t in tensors)


def test_a_zero_vector_has_cosine_distance_one_and_no_gradient():
    vectors = {"anchor": [[0.0, 0.0]], "positive": [[1.0, 2.0]], "negative": [[0.0, 0.0]]}
    tensors = {name: Tensor(np.array(v), requires_grad=True) for name, v in vectors.items()}
    loss = triplet_loss(**tensors, margin=0.5)
    loss.backward()
    assert loss.item() == 0.5 and not any(t.grad.any() for t in tensors.values())


def test_cosine_ignores_length_at_any_scale(dtype, rng):
    a, p, n = (rng.standard_normal((3, 5)).astype(dtype) for _ in range(3))
    expected = triplet_loss(Tensor(a), Tensor(p), Tensor(n), 0.5).item()
    scaled = [Tensor((x * s).astype(dtype), requires_grad=True) for x, s in ((a, 1e25), (p, 1e-25), (n, 3))]
    loss = triplet_loss(*scaled, 0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(np.isfinite(t.grad).all() for t in scaled)


def test_small_angles_keep_their_digits():
    a = np.array([[1.0, 0.0]], np.float32)
    p = np.array([[1.0, 1e-5]], np.float32)  # 1 - cosine = 5e-11, far below float32's step at 1
    assert triplet_loss(Tensor(a), Tensor(p), Tensor(a), 0.0).item() == pytest.approx(5e-11, rel=1e-4)


def test_no_triplets_give_no_loss():
    tensors = [Tensor(np.zeros((0, 3), np.float32), requires_grad=True) for _ in range(3)]
    loss = triplet_loss(*tensors, 0.2)
    loss.backward()
    assert loss.item() == 0 and tensors[0].grad.shape == (0, 3)


def test_nan_shows_in_the_loss(rng):
    tensors = triplets(rng, 3, 4)
    tensors[0].array[1, 1] = np.nan
    assert np.isnan(triplet_loss(*tensors, 0.2, "l2").item())


def test_triplet_loss_names_what_does_not_fit():
    a = Tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="distance is 'euclid', expected one of cosine, l2, squared_l2"):
        triplet_loss(a, a, a, 0.2, "euclid")
    with pytest.raises(ValueError, match=r"negative has shape \(3, 3\), expected \(2, 3\)"):
        triplet_loss(a, a, Tensor(np.zeros((3, 3))), 0.2)
    with pytest.raises(TypeError, match="positive is float32, the anchor is float64"):
        triplet_loss(a, Tensor(np.zeros((2, 3), np.float32)), a, 0.2)
    with pytest.raises(ValueError, match=r"anchor has shape \(3,\)"):
        triplet_loss(Tensor(np.zeros(3)), a, a, 0.2)
