"""Retrieval measures: by hand, against scikit-learn, and by what must not change them."""

from __future__ import annotations

import copy
import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, precision_recall_curve

from sparsenet.retrieval import evaluate, metrics
from sparsenet.retrieval.result import COLUMNS, MEASURES

EXACT = 1e-12
FIGURES = ("AP", "AUC", "NN", "FT", "ST", "E", "NDCG")


def on_a_line(positions, labels, **options):
    """Evaluate shapes at positions on a line, so that the ranking is that of their distances."""
    return evaluate(np.array(positions, float)[:, None], labels, metric="l2", **options)


def of_query(result, row, name):
    return result.per_query[name][row]


def direct_distances(vectors, metric):
    if metric == "l2":
        return ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    length = np.sqrt((vectors**2).sum(1))
    unit = vectors / np.where(length == 0, 1, length)[:, None]
    return 1 - np.round(unit @ unit.T, 12)  # so that equal angles are equal numbers


# ---- by hand ----


def test_one_query_without_ties():
    # From 0: ranks 1..5 are at 1 (yes), 2 (no), 3 (yes), 4 (no), 5 (no).
    result = on_a_line([0, 1, 2, 3, 4, 5], [0, 0, 1, 0, 1, 1])
    assert of_query(result, 0, "AP") == (1 + 2 / 3) / 2
    assert of_query(result, 0, "AUC") == pytest.approx(0.5 * (1 + 1) / 2 + 0.5 * (1 + 2 / 3) / 2, abs=EXACT)
    assert of_query(result, 0, "NN") == 1
    assert of_query(result, 0, "FT") == 1 / 2
    assert of_query(result, 0, "ST") == 1
    precision, recall = 2 / 5, 1.0  # the list ends before rank 32
    assert of_query(result, 0, "E") == pytest.approx(2 * precision * recall / (precision + recall), abs=EXACT)
    best = 1 + 1 / np.log2(3)
    assert of_query(result, 0, "NDCG") == pytest.approx((1 + 1 / np.log2(4)) / best, abs=EXACT)


def test_a_tie_group_shares_the_precision_at_its_end():
    # From 0: rank 1 at distance 1 (no), then two at distance 2 (yes, no), then 3 (yes).
    result = on_a_line([0, 1, 2, -2, 3], [0, 1, 0, 1, 0])
    assert of_query(result, 0, "AP") == (1 / 3 + 2 / 4) / 2
    assert of_query(result, 0, "NN") == 0
    assert of_query(result, 0, "FT") == (1 / 2) / 2  # the cut-off at 2 takes half of the group
    assert of_query(result, 0, "ST") == 1
    gain = (1 / np.log2(3) + 1 / np.log2(4)) / 2 + 1 / np.log2(5)
    assert of_query(result, 0, "NDCG") == pytest.approx(gain / (1 + 1 / np.log2(3)), abs=EXACT)


def test_a_cut_off_counts_a_group_across_it_in_proportion():
    # From 0 all four others are at distance 1, one of them relevant.
    result = evaluate([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], [0, 0, 1, 1, 1], metric="l2")
    assert of_query(result, 0, "NN") == 1 / 4
    assert of_query(result, 0, "FT") == 1 / 4
    assert of_query(result, 0, "ST") == 1 / 2
    assert of_query(result, 0, "AP") == 1 / 4


def test_e_measure_cuts_at_rank_32():
    # 40 relevant items first, then 20 others: at rank 32 the precision is 1, the recall 32 / 40.
    result = on_a_line(range(61), [0] * 41 + [1] * 20)
    assert of_query(result, 0, "E") == pytest.approx(2 * 0.8 / 1.8, abs=EXACT)


def test_a_perfect_embedding_scores_one():
    labels = np.repeat(np.arange(5), 7)
    result = evaluate(np.eye(5)[labels], labels)
    assert all(getattr(result, name) == pytest.approx(1, abs=EXACT) for name in MEASURES if name != "E")
    assert np.array_equal(result.precision, np.ones_like(result.recall))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("point", [[0.1, 0.7, -0.3], [1e6, 1e6 + 1, 3.0], [0.0, 0.0, 0.0]])
def test_a_collapsed_embedding_scores_chance(metric, point):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 20))
    result = evaluate(np.tile(np.float32(point), (200, 1)), labels, metric)
    chance = 19 / 199
    for name in ("mAP", "NN", "FT"):
        assert getattr(result, name) == pytest.approx(chance, abs=EXACT)
    assert result.ST == pytest.approx(2 * chance, abs=EXACT)
    assert result.AUC == pytest.approx(chance + (1 - chance) / 38, abs=EXACT)
    assert result.precision_at(7) == pytest.approx(chance, abs=EXACT)


def test_vectors_of_one_direction_are_tied_under_cosine():
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 20)
    lengths = 1 + labels + rng.random(200)  # the length tells the class, the angle nothing
    result = evaluate(lengths[:, None] * rng.normal(size=64), labels, "cosine")
    assert result.mAP == pytest.approx(19 / 199, abs=EXACT)


def test_a_zero_vector_has_cosine_zero():
    # From the zero vector all are at distance 1: chance.  From [1, 0] it ranks as [0, 1] does.
    result = evaluate([[0, 0], [1, 0], [0, 1], [-1, 0]], [0, 1, 0, 1], "cosine")
    assert of_query(result, 0, "AP") == pytest.approx(1 / 3, abs=EXACT)
    assert of_query(result, 1, "AP") == pytest.approx(1 / 3, abs=EXACT)
    assert of_query(result, 2, "AP") == pytest.approx(1 / 3, abs=EXACT)


def test_a_class_of_one_is_skipped_but_ranked():
    result = on_a_line([0, 1, 2], ["a", "b", "a"])
    assert (result.skipped, result.queries) == (1, 2)
    assert result.mAP == pytest.approx(1 / 2, abs=EXACT)
    assert np.isnan(result.per_query["AP"][1])
    assert list(result.per_class) == ["a"]


def test_macro_is_the_mean_of_class_means():
    result = on_a_line([0, 1, 2, 3, 10, 4], [0, 0, 0, 0, 1, 1])
    per_query = result.per_query["AP"]
    assert result.mAP == pytest.approx(per_query.mean(), abs=EXACT)
    assert result.macro.mAP == pytest.approx((per_query[:4].mean() + per_query[4:].mean()) / 2, abs=EXACT)
    assert result.per_class[1].mAP == pytest.approx(per_query[4:].mean(), abs=EXACT)


# ---- against scikit-learn ----


@pytest.fixture(params=["cosine", "l2"])
def metric(request):
    return request.param


@pytest.fixture(params=["distinct", "lattice", "clumps"])
def embedding(request):
    """150 shapes in 6 classes of unequal size: without ties, with many, with equal vectors."""
    rng = np.random.default_rng(7)
    labels = rng.choice(6, 150, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])
    if request.param == "distinct":
        vectors = rng.normal(size=(150, 8)) + 0.5 * np.eye(8)[labels]
    elif request.param == "lattice":
        vectors = rng.integers(-1, 2, size=(150, 4)).astype(float)
    else:
        vectors = rng.normal(size=(12, 5))[rng.integers(0, 12, 150)]
    return vectors, labels


def test_average_precision_ndcg_and_curve_are_scikit_learns(embedding, metric):
    vectors, labels = embedding
    result = evaluate(vectors, labels, metric)
    distances = direct_distances(vectors, metric)
    for query in range(len(labels)):
        others = np.arange(len(labels)) != query
        relevant, scores = (labels == labels[query])[others], -distances[query, others]
        assert of_query(result, query, "AP") == pytest.approx(average_precision_score(relevant, scores), abs=EXACT)
        assert of_query(result, query, "NDCG") == pytest.approx(ndcg_score([relevant], [scores]), abs=EXACT)
        precision, recall, _ = precision_recall_curve(relevant, scores)
        levels = np.arange(1, relevant.sum() + 1) / relevant.sum()
        # scikit-learn's recall falls; the precision of a level is that of the first group to reach it
        reached = [precision[np.flatnonzero(recall >= level - 1e-12)[-1]] for level in levels]
        area = np.trapezoid([1, *reached], [0, *levels])
        assert of_query(result, query, "AUC") == pytest.approx(area, abs=EXACT)


def test_blocks_do_not_show(embedding, metric, monkeypatch):
    whole = evaluate(*embedding, metric)
    monkeypatch.setattr(metrics, "_BLOCK", 450)
    parts = evaluate(*embedding, metric)
    for name in FIGURES:
        np.testing.assert_allclose(parts.per_query[name], whole.per_query[name], rtol=0, atol=EXACT)
    np.testing.assert_allclose(parts.precision, whole.precision, rtol=0, atol=EXACT)


def test_the_curve_is_the_mean_of_the_queries_and_its_area_the_auc(embedding, metric):
    result = evaluate(*embedding, metric)
    assert (result.recall[0], result.precision[0], result.recall[-1]) == (0, 1, 1)
    assert (np.diff(result.recall) > 0).all()
    assert np.trapezoid(result.precision, result.recall) == pytest.approx(result.AUC, abs=EXACT)
    assert result.AUC == pytest.approx(result.per_query["AUC"].mean(), abs=EXACT)


def test_precision_at_k_agrees_with_the_measures_it_underlies(embedding, metric):
    result = evaluate(*embedding, metric)
    assert result.precision_at(1) == pytest.approx(result.NN, abs=EXACT)
    sizes = np.bincount(embedding[1])[embedding[1]]
    assert result.precision_at(149) == pytest.approx(((sizes - 1) / 149).mean(), abs=EXACT)


# ---- what must not change the result ----

SMALL = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def draw(rng):
    vectors = rng.integers(-2, 3, size=(24, 3)).astype(float)
    return vectors, rng.integers(0, 4, 24)


@settings(max_examples=25, deadline=None)
@given(rng=SMALL, metric=st.sampled_from(["cosine", "l2"]))
def test_the_order_of_the_rows_does_not_matter(rng, metric):
    vectors, labels = draw(rng)
    order = rng.permutation(24)
    before, after = evaluate(vectors, labels, metric), evaluate(vectors[order], labels[order], metric)
    for name in FIGURES:
        np.testing.assert_allclose(after.per_query[name], before.per_query[name][order], rtol=0, atol=EXACT)


@settings(max_examples=25, deadline=None)
@given(rng=SMALL)
def test_scaling_shifting_and_turning_do_not_matter(rng):
    vectors, labels = draw(rng)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    near = evaluate(vectors, labels, "l2")
    angle = evaluate(vectors, labels, "cosine")
    cases = [(near, evaluate(1000 * vectors @ turn + [70, -3, 5000], labels, "l2")),
             (angle, evaluate(rng.uniform(0.01, 90, (24, 1)) * (vectors @ turn), labels, "cosine"))]
    for before, after in cases:
        for name in FIGURES:
            np.testing.assert_allclose(after.per_query[name], before.per_query[name], rtol=0, atol=EXACT)


@settings(max_examples=25, deadline=None)
@given(rng=SMALL, power=st.sampled_from([0.5, 2.0, 3.0]))
def test_only_the_order_of_the_distances_counts(rng, power):
    # On a line of powers the ranking from the first shape is that of the exponents' order.
    steps = np.concatenate(([0], rng.integers(0, 6, 23)))
    labels = rng.integers(0, 3, 24)
    labels[1] = labels[0]
    before, after = on_a_line(steps, labels), on_a_line(steps**power, labels)
    for name in FIGURES:
        assert of_query(after, 0, name) == pytest.approx(of_query(before, 0, name), abs=EXACT)


def test_a_far_away_origin_does_not_blur_l2():
    rng = np.random.default_rng(3)
    vectors, labels = rng.integers(-50, 50, size=(60, 4)).astype(float), rng.integers(0, 4, 60)
    near, far = evaluate(vectors, labels, "l2"), evaluate(vectors + 1e9, labels, "l2")
    assert near.per_query["AP"].tolist() == far.per_query["AP"].tolist()


def test_close_pairs_far_from_each_other_are_distinguished():
    # Two clusters 10^9 apart; within one, positions 0, 1, 3 rank by their small differences.
    positions = np.array([0, 1, 3, 1e9, 1e9 + 1, 1e9 + 3])
    result = on_a_line(positions, [0, 0, 1, 1, 2, 2])
    assert of_query(result, 0, "AP") == 1
    assert of_query(result, 4, "AP") == 1 / 2


def test_tight_clusters_far_from_each_other_rank_by_their_own_distances():
    """Two clusters 10^6 apart and 10^-3 wide: squares of 10^12 leave no digit for distances of 10^-3."""
    rng = np.random.default_rng(12)
    vectors = np.concatenate((rng.normal(size=(30, 3)) * 1e-3, rng.normal(size=(30, 3)) * 1e-3 + 1e6))
    labels = rng.integers(0, 3, 60)
    result = evaluate(vectors, labels, metric="l2")
    distances = direct_distances(vectors, "l2")
    for query in range(60):
        others = np.arange(60) != query
        expected = average_precision_score((labels == labels[query])[others], -distances[query, others])
        assert of_query(result, query, "AP") == pytest.approx(expected, abs=EXACT)


def test_threads_and_dtype_do_not_matter():
    import sparsenet

    rng = np.random.default_rng(5)
    vectors, labels = rng.normal(size=(300, 16)).astype(np.float32), rng.integers(0, 5, 300)
    before, threads = evaluate(vectors, labels), sparsenet.get_num_threads()
    try:
        sparsenet.set_num_threads(3)
        after = evaluate(vectors.astype(np.float64), labels)
    finally:
        sparsenet.set_num_threads(threads)
    assert [getattr(before, name) for name in MEASURES] == [getattr(after, name) for name in MEASURES]
    assert np.array_equal(before.precision, after.precision)


# ---- the paper's protocol ----


def test_paper_protocol_takes_the_first_20_by_name():
    rng = np.random.default_rng(11)
    labels = np.repeat([0, 1, 2], [20, 25, 40])
    names = np.array([f"shape_{i:04d}" for i in range(85)])
    vectors = rng.normal(size=(85, 6))
    order = rng.permutation(85)
    result = evaluate(vectors[order], labels[order], protocol="paper", names=names[order])
    rows = np.concatenate([np.flatnonzero(labels == c)[:20] for c in range(3)])
    alone = evaluate(vectors[rows], labels[rows])
    assert result.queries == 60 and result.hits.size == 59 and result.recall.size == 20
    assert result.mAP == pytest.approx(alone.mAP, abs=EXACT)
    asked = ~np.isnan(result.per_query["AP"])
    assert sorted(order[asked]) == rows.tolist()


def test_paper_protocol_without_names_goes_by_row():
    labels = np.tile([0, 1], 30)
    vectors = np.random.default_rng(2).normal(size=(60, 3))
    result = evaluate(vectors, labels, protocol="paper")
    assert np.isnan(result.per_query["AP"]).tolist() == [False] * 40 + [True] * 20


def test_paper_protocol_takes_equal_names_by_row():
    labels = np.repeat([0, 1], [60, 25])
    result = evaluate(np.random.default_rng(2).normal(size=(85, 3)), labels, protocol="paper", names=["x"] * 85)
    assert np.flatnonzero(~np.isnan(result.per_query["AP"])).tolist() == [*range(20), *range(60, 80)]


def test_paper_protocol_refuses_a_small_class():
    with pytest.raises(ValueError, match="class 'cup' has 19 shapes, protocol 'paper' takes 20"):
        evaluate(np.ones((39, 2)), ["chair"] * 20 + ["cup"] * 19, protocol="paper")


# ---- errors and output ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.01e150, np.longdouble("1e4000")])
def test_numbers_that_are_no_descriptor_are_refused(bad):
    vectors = np.ones((5, 3), np.asarray(bad).dtype)
    vectors[2, 1] = bad
    with pytest.raises(ValueError, match="descriptors have NaN, infinite or huge .* 1 of 5 rows, first in row 2"):
        evaluate(vectors, [0, 0, 1, 1, 1])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_largest_numbers_do_not_overflow(metric):
    vectors = 1e150 * np.array([[1.0, 0], [1, 0.1], [-1, 0], [-1, 0.1]])
    assert evaluate(vectors, [0, 0, 1, 1], metric).mAP == 1


@pytest.mark.parametrize(("change", "message"), [
    ({"descriptors": np.ones(4)}, r"descriptors have shape \(4,\), expected \(S, C\)"),
    ({"labels": [0, 0, 1]}, r"labels have shape \(3,\), expected \(4,\)"),
    ({"labels": [0.0, 0.0, 1.0, 1.0]}, "labels have dtype float64, expected integers or strings"),
    ({"labels": np.array(["a", "a", None, "b"], object)}, "labels have dtype object, expected integers or strings"),
    ({"names": ["a"]}, r"names have shape \(1,\), expected \(4,\)"),
    ({"metric": "manhattan"}, "metric is 'manhattan', expected one of cosine, l2"),
    ({"metric": np.eye(4)}, "metric is ndarray, expected one of cosine, l2"),
    ({"descriptors": [[1.0], [1.0, 2.0]]}, r"descriptors do not form an array, expected \(S, C\)"),
    ({"protocol": "shrec"}, "protocol is 'shrec', expected None, 'paper' or '3dshapenets'"),
    ({"labels": [0, 1, 2, 3]}, "none of the 4 shapes shares its class"),
    ({"descriptors": np.ones((4, 2), complex)}, "descriptors are ndarray of dtype complex128, expected an array of"),
])
def test_arguments_that_do_not_fit_are_named(change, message):
    arguments = {"descriptors": np.eye(4), "labels": [0, 0, 1, 1], **change}
    with pytest.raises((ValueError, TypeError), match=message):
        evaluate(**arguments)


def test_no_shapes_at_all_are_refused():
    with pytest.raises(ValueError, match="none of the 0 shapes"):
        evaluate(np.empty((0, 3)), np.empty(0, int))


def test_k_outside_the_ranking_is_refused():
    result = on_a_line([0, 1, 2], [0, 0, 0])
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k is {k}, expected 1 to 2"):
            result.precision_at(k)


def test_the_input_stays_as_it_was():
    vectors, labels = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 4
    before = vectors.copy()
    evaluate(np.asfortranarray(vectors), labels, "l2")
    assert np.array_equal(vectors, before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))])
def test_a_copy_holds_and_prints_the_same(copied):
    result = on_a_line([0, 1, 2, 3, 9], [0, 0, 1, 1, 2])
    other = copied(result)
    assert str(other) == str(result) and other.figures() == result.figures()
    assert np.array_equal(other.precision, result.precision) and np.array_equal(other.hits, result.hits)
    for name in FIGURES:
        assert np.array_equal(other.per_query[name], result.per_query[name], equal_nan=True)


def test_it_prints_as_an_aligned_table_and_its_figures_are_json():
    result = on_a_line([0, 1, 2, 3, 9], [0, 0, 1, 1, 2])
    header, micro, macro, precision, note = str(result).splitlines()
    assert header.split() == ["%", *COLUMNS]
    assert len(header) == len(micro) == len(macro)
    assert note == "4 queries of 2 classes, each ranks 4 shapes by l2, 1 skipped (no other shape of their class)"
    assert precision == f"precision, %: at 1 {100 * result.precision_at(1):.2f}, at R {100 * result.FT:.2f}"
    figures = json.loads(json.dumps(result.figures(["cup", "bed", "car"]), allow_nan=False))
    assert figures["macro"]["mAP"] == result.macro.mAP and figures["precision_at"] == {"1": result.precision_at(1)}
    assert set(figures["per_class"]) == {"cup", "bed"} and figures["per_class"]["bed"]["NN"] == result.per_class[1].NN


def test_precision_is_printed_at_the_existing_ranks():
    result = on_a_line(range(12), [0, 1] * 6)
    assert list(result.figures()["precision_at"]) == ["1", "5", "10"] and "at 10 " in str(result)


def test_precision_at_the_last_rank_is_printed_too():
    assert list(on_a_line(range(6), [0, 1] * 3).figures()["precision_at"]) == ["1", "5"]


def test_scores_print_as_a_table_of_percentages():
    result = on_a_line([0, 1, 2, 3], [0, 0, 1, 1])
    header, figures = str(result.macro).splitlines()
    assert header.split() == list(COLUMNS) and len(header) == len(figures)
    ends = [[match.end() for match in re.finditer(r"\S+", line)] for line in (header, figures)]
    assert ends[0] == ends[1]
    assert figures.split() == [f"{100 * getattr(result.macro, name):.2f}" for name in COLUMNS]


def test_the_repr_of_a_result_has_no_arrays():
    result = on_a_line([0, 1, 2, 3], [0, 0, 1, 1])
    text = repr(result)
    assert f"mAP={result.mAP}" in text and "queries=4" in text
    assert not any(f" {name}=" in text for name in ("precision", "recall", "per_class", "per_query", "hits"))


def test_labels_may_be_texts_in_an_array_of_objects():
    labels = np.array(["bed", "bed", "cup", "cup"], object)
    assert list(on_a_line([0, 1, 2, 3], labels).per_class) == ["bed", "cup"]


def test_shapes_of_unknown_class_are_ranked_but_are_no_queries_and_never_relevant():
    result = on_a_line([0, 0.5, 2, 2.1], [0, -1, 0, -1])
    assert (result.queries, result.skipped, result.unknown, list(result.per_class)) == (2, 0, 2, [0])
    assert result.hits.size == 3 and np.isnan(result.per_query["AP"]).tolist() == [False, True, False, True]
    assert of_query(result, 0, "AP") == 1 / 2 and of_query(result, 2, "AP") == 1 / 3
    assert "2 of unknown class are ranked but are not queries" in str(result) and result.figures()["unknown"] == 2
    with pytest.raises(ValueError, match="none of the 3 shapes shares its class"):
        on_a_line([0, 1, 2], [-1, -1, 0])
    assert on_a_line([0, 1, 2], ["-1", "-1", "b"]).unknown == 0  # a text is a class


def test_the_paper_s_protocol_leaves_unknown_classes_out():
    labels = np.repeat([0, 1, -1], [20, 21, 5])
    result = on_a_line(range(46), labels, protocol="paper")
    assert (result.queries, result.unknown, result.hits.size) == (40, 0, 39)
