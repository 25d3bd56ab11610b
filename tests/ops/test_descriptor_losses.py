"""The losses of descriptors against plain loops written from their formulas, and their gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from reference import TOLERANCE, assert_close

from sparsenet import Tensor, gradcheck
from sparsenet.gradcheck import GradcheckError
from sparsenet.ops import (
    centre_loss,
    cosine_linear,
    cosine_softmax,
    cosine_softmax_with_figures,
    proxy_anchor,
    supervised_contrastive,
    triplet_centre_loss,
)

# ---- the formulas, sample by sample ----


def cosine(x, y):
    lengths = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / lengths if lengths else 0.0


def half_distance(x, c):
    return sum((a - b) ** 2 for a, b in zip(x, c, strict=True)) / 2


def cosine_softmax_by_hand(x, w, labels, scale, margin, kind):
    total = 0.0
    for row, label in zip(x, labels, strict=True):
        logits = [scale * cosine(row, vector) for vector in w.T]
        own = cosine(row, w.T[label])
        if kind == "arcface":
            angle = math.acos(own) + margin
            own = math.cos(angle) if angle <= math.pi else own - 1 + math.cos(margin)
        else:
            own -= margin
        logits[label] = scale * own
        total += math.log(sum(math.exp(z) for z in logits)) - logits[label]
    return total / len(x)


def contrastive_by_hand(x, labels, temperature):
    terms = []
    for i, row in enumerate(x):
        others = [a for a in range(len(x)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        total = sum(math.exp(cosine(row, x[a]) / temperature) for a in others)
        if positives:
            terms.append(-sum(math.log(math.exp(cosine(row, x[p]) / temperature) / total) for p in positives)
                         / len(positives))
    return sum(terms) / len(terms) if terms else 0.0


def centre_by_hand(x, c, labels):
    return sum(half_distance(row, c[label]) for row, label in zip(x, labels, strict=True)) / len(x)


def triplet_centre_by_hand(x, c, labels, margin):
    return sum(max(0.0, half_distance(row, c[label]) + margin
                   - min(half_distance(row, other) for k, other in enumerate(c) if k != label))
               for row, label in zip(x, labels, strict=True)) / len(x)


def proxy_anchor_by_hand(x, proxies, labels, alpha, margin):
    pulled, pushed = [], []
    for k, proxy in enumerate(proxies):
        near = [cosine(row, proxy) for row, label in zip(x, labels, strict=True) if label == k]
        far = [cosine(row, proxy) for row, label in zip(x, labels, strict=True) if label != k]
        if near:
            pulled.append(math.log(1 + sum(math.exp(-alpha * (s - margin)) for s in near)))
        pushed.append(math.log(1 + sum(math.exp(alpha * (s + margin)) for s in far)))
    return sum(pulled) / len(pulled) + sum(pushed) / len(proxies)


LABELS = np.array([0, 2, 2, 1, 0, 2, 4])  # 1 and 4 once, 3 never
SHAPES = {"weights": (6, 5), "centres": (5, 6), None: None}
# name -> the loss, what it learns beside the descriptors, its formula, its settings
LOSSES = {
    "normface": (cosine_softmax, "weights", cosine_softmax_by_hand, (14.0, 0.0, "normface")),
    "cosface": (cosine_softmax, "weights", cosine_softmax_by_hand, (14.0, 0.2, "cosface")),
    "arcface": (cosine_softmax, "weights", cosine_softmax_by_hand, (14.0, 0.5, "arcface")),
    "arcface beyond pi": (cosine_softmax, "weights", cosine_softmax_by_hand, (3.0, 2.0, "arcface")),
    "contrastive": (supervised_contrastive, None, contrastive_by_hand, (0.1,)),
    "centre": (centre_loss, "centres", centre_by_hand, ()),
    "triplet-centre": (triplet_centre_loss, "centres", triplet_centre_by_hand, (1.5,)),
    "proxy-anchor": (proxy_anchor, "centres", proxy_anchor_by_hand, (32.0, 0.1)),
}


def arrays_of(name, rng, dtype=np.float64):
    """The descriptors, and the parameters of the loss, if any."""
    shape = SHAPES[LOSSES[name][1]]
    return [rng.standard_normal(one).astype(dtype) for one in ((len(LABELS), 6), shape) if one]


def called(name, tensors, labels=LABELS):
    loss, _, _, settings = LOSSES[name]
    return loss(*tensors, labels, *settings)


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_is_that_of_the_formula(name, dtype, rng):
    arrays = arrays_of(name, rng, dtype)
    expected = LOSSES[name][2](*(array.astype(np.float64) for array in arrays), LABELS, *LOSSES[name][3])
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    loss = called(name, tensors)
    assert loss.shape == () and loss.dtype == dtype and expected > 0
    assert loss.item() == pytest.approx(expected, rel=TOLERANCE[np.dtype(dtype)])
    loss.backward()
    assert all(tensor.grad.dtype == dtype and tensor.grad.any() for tensor in tensors)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_descriptors_and_parameters(name, rng):
    tensors = [Tensor(array, requires_grad=True) for array in arrays_of(name, rng)]
    assert gradcheck(lambda *given: called(name, given) * 1.7, tensors)


@pytest.mark.parametrize("name", LOSSES)
def test_a_gradient_wrong_by_a_thousandth_is_caught(name, rng, monkeypatch):
    function = type(called(name, [Tensor(array, requires_grad=True) for array in arrays_of(name, rng)])._creator)
    real = function.backward

    def wrong(self, gradient):
        results = real(self, gradient)
        return tuple(1.001 * r for r in results) if isinstance(results, tuple) else 1.001 * results

    monkeypatch.setattr(function, "backward", wrong)
    with pytest.raises(GradcheckError):
        gradcheck(lambda *given: called(name, given),
                  [Tensor(array, requires_grad=True) for array in arrays_of(name, rng)])


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_batch_has_loss_0(name, dtype, rng):
    arrays = arrays_of(name, rng, dtype)
    tensors = [Tensor(array, requires_grad=True) for array in (arrays[0][:0], *arrays[1:])]
    loss = called(name, tensors, [])
    loss.backward()
    assert loss.item() == 0 and loss.dtype == dtype
    assert [tensor.grad.shape for tensor in tensors] == [tensor.shape for tensor in tensors]
    assert not any(tensor.grad.any() for tensor in tensors)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_and_equal_vectors_have_finite_gradients(name, rng):
    arrays = arrays_of(name, rng)
    arrays[0][0] = 0
    if SHAPES[LOSSES[name][1]]:
        vectors = arrays[1].T if LOSSES[name][1] == "weights" else arrays[1]
        vectors[0], arrays[0][1], arrays[0][2], arrays[0][3] = 0, vectors[2], -vectors[2], vectors[0]
    arrays[0][4] = arrays[0][5]
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    with np.errstate(all="raise", under="ignore"):
        loss = called(name, tensors)
        loss.backward()
    assert np.isfinite(loss.item()) and all(np.isfinite(tensor.grad).all() for tensor in tensors)
    assert loss.item() == pytest.approx(LOSSES[name][2](*arrays, LABELS, *LOSSES[name][3]))
    if "centre" not in name:  # cosines have no direction there
        assert not tensors[0].grad[0].any()
        for learned in tensors[1:]:
            assert not (learned.grad.T if LOSSES[name][1] == "weights" else learned.grad)[0].any()


@pytest.mark.parametrize("name", LOSSES)
def test_it_takes_any_layout_and_integers_and_leaves_its_inputs_alone(name, rng):
    arrays = arrays_of(name, rng)
    expected = called(name, [Tensor(array) for array in arrays]).item()
    turned = [np.asfortranarray(array) for array in arrays]
    for labels in (LABELS.astype("u1"), LABELS.tolist(), Tensor(LABELS), np.repeat(LABELS, 2)[::2]):
        assert called(name, [Tensor(array) for array in turned], labels).item() == pytest.approx(expected, rel=1e-14)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, turned, strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_float16_is_computed_in_float32(name, rng):
    arrays = arrays_of(name, rng, np.float16)
    loss = called(name, [Tensor(array) for array in arrays])
    assert loss.dtype == np.float32
    assert loss.item() == called(name, [Tensor(array.astype("f4")) for array in arrays]).item()


@pytest.mark.parametrize("name", [name for name in LOSSES if "centre" not in name])
def test_cosines_do_not_depend_on_lengths_however_large(name, rng):
    arrays = arrays_of(name, rng)
    expected = called(name, [Tensor(array) for array in arrays]).item()
    for factor in (1e-200, 1e200):
        assert called(name, [Tensor(array * factor) for array in arrays]).item() == pytest.approx(expected, rel=1e-12)


def test_large_scales_and_small_temperatures_stay_finite(dtype):
    rows = Tensor(np.array([[1, 0], [1, 0], [0, 1]], dtype), requires_grad=True)
    weights = Tensor(np.eye(2, dtype=dtype), requires_grad=True)
    assert cosine_softmax(rows, weights, [1, 1, 0], 1e6, 0.5).item() == pytest.approx(1.5e6)
    assert cosine_softmax(rows, weights, [0, 0, 1], 1e6, 0.5, "arcface").item() == 0
    assert supervised_contrastive(rows, [0, 1, 0], 1e-5).item() == pytest.approx(5e4 + math.log(2) / 2, rel=1e-5)
    assert proxy_anchor(rows, weights, [1, 1, 0], alpha=1e5).item() == pytest.approx(1.2e5 + math.log(2))


def test_a_class_alone_in_its_batch_is_no_anchor_but_one_of_the_others(rng):
    x, labels = rng.standard_normal((4, 3)), [0, 1, 2, 2]
    assert supervised_contrastive(Tensor(x), labels).item() == pytest.approx(contrastive_by_hand(x, labels, 0.1))
    rows = Tensor(x, requires_grad=True)
    loss = supervised_contrastive(rows, [0, 1, 2, 3])
    loss.backward()
    assert loss.item() == 0 and not rows.grad.any()


def test_figures_tell_how_many_are_right_without_the_margin():
    rows = Tensor(np.array([[1.0, 0.9], [0.0, 2.0], [3.0, 0.0]]), requires_grad=True)
    loss, figures = cosine_softmax_with_figures(rows, Tensor(np.eye(2)), [0, 1, 1], 10, 0.9)
    assert figures.tolist() == [loss.item(), 2]


def test_the_angular_margin_joins_where_it_passes_pi():
    """At the border the loss is continuous, and it keeps growing with the angle."""
    margin, weights = 0.5, Tensor(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    angles = math.pi - margin + np.array([-1e-9, 1e-9, 0.2, 0.4, 0.5])
    rows = (Tensor(np.array([[math.cos(angle), math.sin(angle), 0.0]])) for angle in angles)
    values = [cosine_softmax(row, weights, [0], 5, margin, "arcface").item() for row in rows]
    assert values[0] == pytest.approx(values[1], abs=1e-5) and np.all(np.diff(values[1:]) > 0)


def test_equally_near_centres_and_terms_of_exactly_0():
    centres = Tensor(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), requires_grad=True)
    rows = Tensor(np.array([[0.0, 0.0]]), requires_grad=True)
    triplet_centre_loss(rows, centres, [0], 2.0).backward()  # 0 + 2 - 2
    assert not rows.grad.any() and not centres.grad.any()
    triplet_centre_loss(rows, centres, [0], 3.0).backward()
    assert_close(rows.grad, np.array([[2.0, 0.0]]))  # away from the first of the two
    assert_close(centres.grad, np.array([[0.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]))


# ---- the cosine classifier ----


def test_cosine_linear(dtype, rng):
    x, weight = rng.standard_normal((4, 6)).astype(dtype), rng.standard_normal((6, 3)).astype(dtype)
    expected = [[14 * cosine(row, column) for column in weight.T.astype("f8")] for row in x.astype("f8")]
    out = cosine_linear(Tensor(x), Tensor(weight), 14)
    assert out.dtype == dtype
    assert_close(out.numpy(), np.array(expected))
    assert cosine_linear(Tensor(x[:0]), Tensor(weight), 14).shape == (0, 3)


def test_cosine_linear_gradcheck(rng):
    tensors = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((4, 6), (6, 3))]
    assert gradcheck(lambda x, w: cosine_linear(x, w, 14), tensors)


def test_a_row_of_a_cosine_classifier_does_not_depend_on_the_others(dtype, rng):
    x, weight = rng.standard_normal((70, 33)).astype(dtype), Tensor(rng.standard_normal((33, 7)).astype(dtype))
    whole = cosine_linear(Tensor(x), weight, 14, batch_invariant=True).numpy()
    for rows in (slice(3, 4), slice(0, 9), slice(40, 70)):
        alone = cosine_linear(Tensor(x[rows]), weight, 14, batch_invariant=True).numpy()
        assert alone.tobytes() == whole[rows].tobytes()


def test_cosine_softmax_is_the_cross_entropy_of_the_cosine_classifier(rng):
    from sparsenet.ops import softmax_cross_entropy

    x, weight = (Tensor(rng.standard_normal(shape)) for shape in ((7, 6), (6, 5)))
    expected = softmax_cross_entropy(cosine_linear(x, weight, 14), LABELS).item()
    assert cosine_softmax(x, weight, LABELS, 14).item() == pytest.approx(expected, rel=1e-12)


# ---- errors ----


@pytest.mark.parametrize("name", LOSSES)
def test_what_does_not_fit_is_named(name, rng):
    loss, learned, _, settings = LOSSES[name]
    operation, arrays = loss.__name__, arrays_of(name, rng)
    tensors = [Tensor(array) for array in arrays]
    with pytest.raises(TypeError, match=f"{operation}: descriptors is ndarray, expected a Tensor"):
        loss(*arrays, LABELS, *settings)
    with pytest.raises(TypeError, match=f"{operation}: descriptors are int64, expected floating-point"):
        loss(Tensor(np.ones((7, 6), np.int64)), *tensors[1:], LABELS, *settings)
    with pytest.raises(ValueError, match=rf"{operation}: descriptors have shape \(6,\), expected \(N, C\)"):
        loss(Tensor(arrays[0][0]), *tensors[1:], LABELS, *settings)
    with pytest.raises(ValueError, match=rf"{operation}: labels have shape \(3,\), expected \(7,\)"):
        loss(*tensors, LABELS[:3], *settings)
    with pytest.raises(TypeError, match=f"{operation}: labels are float64, expected integers"):
        loss(*tensors, LABELS.astype("f8"), *settings)
    if learned:
        with pytest.raises(ValueError, match=f"{operation}: label of row 1 is 5, expected 0 to 4: the "):
            loss(*tensors, [0, 5, 0, 0, 0, 0, 0], *settings)
        with pytest.raises(TypeError, match=f"{operation}: {'weights' if learned == 'weights' else ''}.* are float32, "
                                            "the descriptors are float64"):
            loss(tensors[0], Tensor(arrays[1].astype("f4")), LABELS, *settings)
        with pytest.raises(ValueError, match=f"{operation}: .* have shape .*, expected"):
            loss(tensors[0], Tensor(arrays[1][:, :4] if learned == "centres" else arrays[1][:4]), LABELS, *settings)


def test_settings_out_of_range_are_named(rng):
    x, w, c = (Tensor(rng.standard_normal(shape)) for shape in ((7, 6), (6, 5), (5, 6)))
    for call, words in [
        (lambda: cosine_softmax(x, w, LABELS, 0), "cosine_softmax: scale is 0, expected a finite number above 0"),
        (lambda: cosine_softmax(x, w, LABELS, 1, -1), "cosine_softmax: margin is -1, expected .* at least 0"),
        (lambda: cosine_softmax(x, w, LABELS, 1, 4, "arcface"), "margin is 4, expected .* at most 3.14"),
        (lambda: cosine_softmax(x, w, LABELS, 1, 0.1, "normface"), "NormFace has none"),
        (lambda: cosine_softmax(x, w, LABELS, 1, 0.1, "sphereface"), "kind is 'sphereface', expected one of cosface"),
        (lambda: supervised_contrastive(x, LABELS, 0), "temperature is 0, expected a finite number above 0"),
        (lambda: triplet_centre_loss(x, c, LABELS, math.nan), "margin is nan"),
        (lambda: triplet_centre_loss(x, c[:1], [0] * 7, 1), "expected at least two classes"),
        (lambda: proxy_anchor(x, c, LABELS, alpha=-1), "alpha is -1"),
        (lambda: cosine_linear(x, w, math.inf), "CosineLinear: scale is inf"),
        (lambda: cosine_linear(x, c, 1), "CosineLinear: x has 6 channels, the weights expect 5"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="temperature is '0.1', expected a number"):
        supervised_contrastive(x, LABELS, "0.1")
