"""Chance levels, separate queries, the protocol of 3DShapeNets, and SHREC'16's measures."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score, precision_recall_curve

from sparsenet.retrieval import evaluate
from sparsenet.retrieval.chance import expected_average_precision

EXACT = 1e-12
FIGURES = ("AP", "AUC", "NN", "FT", "ST", "E", "NDCG")


def average_precision(relevant) -> Fraction:
    """A measure of a ranking without ties: 1 for a relevant item, 0 for any other."""
    hits = np.cumsum(relevant).tolist()
    found = [Fraction(hits[rank], rank + 1) for rank, item in enumerate(relevant) if item]
    return sum(found) / len(found)


def clusters(rng, labels, width=1.5, channels=6):
    return rng.normal(size=(len(labels), channels)) * width + np.eye(channels)[np.asarray(labels) % channels]


# ---- chance ----


@pytest.mark.parametrize(("relevant", "ranked"), [(1, 1), (1, 4), (2, 5), (3, 6), (4, 4), (5, 6)])
def test_chance_is_the_mean_over_all_orders(relevant, ranked):
    items = [1] * relevant + [0] * (ranked - relevant)
    orders = list(permutations(items))
    assert expected_average_precision(relevant, ranked) == pytest.approx(
        float(sum(map(average_precision, orders)) / len(orders)), abs=EXACT)
    first = [order for order in orders if order[0]]
    assert expected_average_precision(relevant, ranked, query_first=True) == pytest.approx(
        float(sum(map(average_precision, first)) / len(first)), abs=EXACT)


def test_chance_is_what_the_closed_formula_says():
    harmonic = sum(1 / i for i in range(1, 800))
    expected = (harmonic + 18 / 798 * (799 - harmonic)) / 799
    assert expected_average_precision(19, 799) == pytest.approx(expected, abs=EXACT)
    assert expected > 19 / 799


@pytest.mark.parametrize(("relevant", "ranked"), [(0, 3), (4, 3)])
def test_chance_of_no_ranking_is_refused(relevant, ranked):
    with pytest.raises(ValueError, match=f"relevant is {relevant}, expected 1 to 3"):
        expected_average_precision(relevant, ranked)


def test_random_descriptors_score_the_chance_level(rng):
    """Classes of unequal size, each of its own chance; 60 draws, within four standard errors."""
    labels = np.repeat([0, 1, 2, 3], [5, 10, 25, 60])
    found = [evaluate(rng.normal(size=(100, 40)), labels) for _ in range(60)]
    for get in (lambda scores: scores, lambda result: result.macro, *(lambda r, c=c: r.per_class[c] for c in range(4))):
        maps = np.array([get(result).mAP for result in found])
        chance = get(found[0]).chance
        assert abs(maps.mean() - chance) < 4 * maps.std() / np.sqrt(60) + 1e-3
    assert found[0].per_class[0].chance == pytest.approx(expected_average_precision(4, 99), abs=EXACT)
    assert found[0].chance == pytest.approx(found[0].per_query["chance"].mean(), abs=EXACT)


# ---- separate queries ----


@pytest.fixture(params=["cosine", "l2"])
def metric(request):
    return request.param


@pytest.mark.parametrize("lattice", [False, True])
def test_queries_rank_the_whole_gallery_as_scikit_learn_measures_it(rng, metric, lattice):
    gallery_labels, labels = rng.integers(0, 5, 90), rng.integers(0, 5, 40)
    gallery, vectors = clusters(rng, gallery_labels), clusters(rng, labels)
    if lattice:  # with many ties
        gallery, vectors = np.rint(gallery), np.rint(vectors)
    result = evaluate(gallery, gallery_labels, metric, queries=(vectors, labels))
    unit = [v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-300) for v in (vectors, gallery)]
    scores = np.round(unit[0] @ unit[1].T, 12) if metric == "cosine" else -(
        (vectors[:, None] - gallery[None]) ** 2).sum(-1)
    for query in range(40):
        relevant = gallery_labels == labels[query]
        assert result.per_query["AP"][query] == pytest.approx(
            average_precision_score(relevant, scores[query]), abs=EXACT)
        assert result.per_query["NDCG"][query] == pytest.approx(ndcg_score([relevant], [scores[query]]), abs=EXACT)
    assert (result.queries, result.skipped, result.unknown, result.hits.size) == (40, 0, 0, 90)
    assert result.chance == pytest.approx(np.mean(
        [expected_average_precision(int((gallery_labels == label).sum()), 90) for label in labels]), abs=EXACT)


def test_queries_without_a_relevant_shape_are_skipped():
    result = evaluate([[0.0], [1], [2], [3]], [0, 1, -1, 1], "l2",
                      queries=([[0.1], [0.9], [5], [6]], [0, 1, 2, -1]))
    assert (result.queries, result.skipped, result.unknown) == (2, 2, 1)
    assert np.isnan(result.per_query["AP"]).tolist() == [False, False, True, True]
    assert result.per_query["AP"][:2].tolist() == [1, (1 + 2 / 4) / 2]
    assert list(result.per_class) == [0, 1]
    assert "2 queries of 2 classes, each ranks 4 shapes by l2, 2 skipped" in str(result)


def test_a_gallery_that_holds_the_query_first_is_the_leave_one_out_ranking_one_rank_later(rng):
    labels = np.repeat([0, 1, 2], 8)
    vectors = clusters(rng, labels)
    inside, outside = evaluate(vectors, labels, "l2"), evaluate(vectors, labels, "l2", queries=(vectors, labels))
    np.testing.assert_allclose(np.cumsum(outside.hits)[1:] - 1, np.cumsum(inside.hits), atol=EXACT)


@pytest.mark.parametrize(("queries", "error", "message"), [
    ((np.ones((2, 3)), [0, 1]), ValueError, "queries have 3 numbers each, the descriptors 4"),
    ((np.ones((2, 4)), [0]), ValueError, "labels of the queries have shape"),
    ((np.ones((2, 4)), ["a", "b"]), TypeError, "expected both integers or both strings"),
    ((np.full((2, 4), np.nan), [0, 1]), ValueError, "queries have NaN"),
    ((np.ones((2, 4)), [7, 8]), ValueError, "none of the 2 queries shares its class with one of the 4 shapes"),
    ((np.ones((0, 4)), np.empty(0, int)), ValueError, "none of the 0 queries"),
    (np.ones((3, 4)), TypeError, "queries is not a pair"),
])
def test_queries_that_do_not_fit_are_named(queries, error, message):
    with pytest.raises(error, match=message):
        evaluate(np.eye(4), [0, 0, 1, 1], queries=queries)


def test_a_protocol_and_queries_exclude_each_other():
    with pytest.raises(ValueError, match="give queries or a protocol"):
        evaluate(np.eye(4), [0, 0, 1, 1], protocol="paper", queries=(np.eye(4), [0, 0, 1, 1]))


# ---- the protocol of 3DShapeNets ----


@pytest.fixture
def poses(rng):
    """Two classes of 21 and 22 objects in three poses each, in mixed order -> vectors, labels, names."""
    labels = np.repeat([0, 1], [63, 66])
    names = np.array([f"{'ab'[label]}{number:03d}" for label, number in zip(labels, np.arange(129) // 3, strict=True)])
    order = rng.permutation(129)
    return clusters(rng, labels)[order], labels[order], names[order]


def test_each_pose_is_a_query_and_its_own_hit_at_rank_1(poses, metric):
    vectors, labels, names = poses
    result = evaluate(vectors, labels, metric, "3dshapenets", names)
    chosen = np.isin(names, [f"a{i:03d}" for i in range(20)] + [f"b{i:03d}" for i in range(21, 41)])
    assert np.array_equal(~np.isnan(result.per_query["AP"]), chosen)
    assert (result.queries, result.hits.size, result.NN) == (120, 120, 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T if metric == "cosine" else ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    for query in np.flatnonzero(chosen)[::7]:
        ranked = distances[query, chosen].copy()
        ranked[np.flatnonzero(np.flatnonzero(chosen) == query)] = -1  # first
        relevant = labels[chosen] == labels[query]
        assert relevant.sum() == 60
        assert result.per_query["AP"][query] == pytest.approx(average_precision_score(relevant, -ranked), abs=EXACT)
        precision, recall, _ = precision_recall_curve(relevant, -ranked)
        best = np.maximum.accumulate(precision)  # scikit-learn's recall falls
        levels = np.arange(1, 61) / 60
        expected = np.mean([best[np.flatnonzero(recall >= level - 1e-12)[-1]] for level in levels])
        assert result.per_query["interpolated_AP"][query] == pytest.approx(expected, abs=EXACT)
    assert result.interpolated_mAP >= result.mAP
    assert result.chance == pytest.approx(expected_average_precision(60, 120, query_first=True), abs=EXACT)
    assert f"interpolated mAP, %: {100 * result.interpolated_mAP:.2f}" in str(result)


def test_interpolated_average_precision_by_hand():
    # From 0: no, yes, no, no, yes, yes: precision 1/2, 2/5, 3/6; the later 3/6 lifts the 2/5.
    result = evaluate(np.arange(7.0)[:, None], [0, 1, 0, 1, 1, 0, 0], "l2")
    assert result.per_query["AP"][0] == pytest.approx((1 / 2 + 2 / 5 + 1 / 2) / 3, abs=EXACT)
    assert result.per_query["interpolated_AP"][0] == pytest.approx(1 / 2, abs=EXACT)


def test_the_protocol_of_3dshapenets_needs_names_and_20_objects(poses):
    vectors, labels, names = poses
    with pytest.raises(ValueError, match="'3dshapenets' needs names"):
        evaluate(vectors, labels, protocol="3dshapenets")
    few = labels == 0
    with pytest.raises(ValueError, match="class 0 has 19 shapes, protocol '3dshapenets' takes 20 of each class"):
        keep = few & ~np.isin(names, ["a000", "a001"])
        evaluate(vectors[keep], labels[keep], protocol="3dshapenets", names=names[keep])
    unknown = np.where(few, labels, -1)
    assert evaluate(vectors, unknown, protocol="3dshapenets", names=names).queries == 60


# ---- SHREC'16 ----


def test_precision_recall_and_f1_at_n_are_means_over_queries_and_over_classes(rng):
    labels = rng.permutation(np.repeat([0, 1, 2], [4, 9, 17]))
    vectors = clusters(rng, labels)
    result = evaluate(vectors, labels, "l2")
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    for n in (1, 3, 12, 29):
        rows = []
        for query in range(30):
            order = np.argsort(np.delete(distances[query], query))
            hits = (np.delete(labels, query)[order][:n] == labels[query]).sum()
            precision, recall = hits / n, hits / ((labels == labels[query]).sum() - 1)
            rows.append((precision, recall, 2 * precision * recall / (precision + recall) if hits else 0))
        rows = np.array(rows)
        found = result.at(n)
        np.testing.assert_allclose(list(vars(found.micro).values()), rows.mean(axis=0), atol=EXACT)
        macro = np.mean([rows[labels == label].mean(axis=0) for label in range(3)], axis=0)
        np.testing.assert_allclose(list(vars(found.macro).values()), macro, atol=EXACT)
        assert found.micro.P == pytest.approx(result.precision_at(n), abs=EXACT)
    header, *lines = str(result.at(12)).splitlines()
    assert header.split() == ["%", "P@12", "R@12", "F1@12"] and len(lines) == 2


def test_at_n_shares_a_tie_group_that_straddles_n():
    result = evaluate(np.ones((20, 2)), np.arange(20) % 4)
    found = result.at(7)
    assert found.micro.P == pytest.approx(4 / 19, abs=EXACT) and found.micro.R == pytest.approx(7 / 19, abs=EXACT)


def test_n_outside_the_lists_is_refused(rng):
    small = evaluate(rng.normal(size=(30, 2)), np.arange(30) % 3)
    for n in (0, 30):
        with pytest.raises(ValueError, match=f"n is {n}, expected 1 to 29"):
            small.at(n)
    large = evaluate(rng.normal(size=(1010, 2)), np.arange(1010) % 3)
    assert large.at(1000).N == 1000
    with pytest.raises(ValueError, match="n is 1001, expected 1 to 1000"):
        large.at(1001)


def test_r_precision_is_the_first_tier_and_all_measures_are_in_the_figures(rng):
    labels = np.repeat([0, 1, 2], 10)
    result = evaluate(clusters(rng, labels), labels)
    assert result.R_precision == result.FT == pytest.approx(result.at(9).micro.P, abs=EXACT)
    figures = json.loads(json.dumps(result.figures(), allow_nan=False))
    assert figures["R_precision"] == result.FT and figures["chance"] == result.chance
    assert figures["interpolated_mAP"] == result.interpolated_mAP and figures["protocol"] is None
    assert figures["shrec16"]["N"] == 29 and figures["shrec16"]["macro"]["F1"] == result.at(29).macro.F1
    assert figures["macro"]["chance"] == result.macro.chance
    assert figures["per_class"]["1"]["chance"] == result.per_class[1].chance


def test_blocks_do_not_show(rng, metric, monkeypatch, poses):
    from sparsenet.retrieval import metrics

    vectors, labels, names = poses
    arguments = [{}, {"protocol": "3dshapenets", "names": names}, {"queries": (vectors[:50], labels[:50])}]
    whole = [evaluate(vectors, labels, metric, **options) for options in arguments]
    monkeypatch.setattr(metrics, "_BLOCK", 450)
    for before, options in zip(whole, arguments, strict=True):
        after = evaluate(vectors, labels, metric, **options)
        for name in FIGURES:
            np.testing.assert_allclose(after.per_query[name], before.per_query[name], rtol=0, atol=EXACT)
        assert vars(after.at(40).macro) == pytest.approx(vars(before.at(40).macro), abs=EXACT)
