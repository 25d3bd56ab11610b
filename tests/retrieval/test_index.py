"""The index against scikit-learn and brute force; ties by row; its file."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from sparsenet.retrieval import Index, nearest

METRICS = ["cosine", "l2"]


def filled(vectors, metric):
    index = Index(metric)
    index.add(vectors)
    return index


@pytest.mark.parametrize("metric", METRICS)
def test_it_finds_what_scikit_learn_finds(metric):
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(400, 12)) + 5, rng.normal(size=(30, 12)) + 5
    reference = NearestNeighbors(metric={"l2": "euclidean"}.get(metric, metric), algorithm="brute").fit(vectors)
    expected_distances, expected_rows = reference.kneighbors(queries, 7)
    distances, rows = filled(vectors, metric).search(queries, 7)
    assert rows.dtype == np.int64 and distances.dtype == np.float64
    assert np.array_equal(rows, expected_rows)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-10, atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 25), metric=st.sampled_from(METRICS))
def test_ties_come_in_the_order_of_the_rows(seed, k, metric):
    rng = np.random.default_rng(seed)
    vectors, queries = rng.integers(-1, 2, (25, 3)), rng.integers(-1, 2, (6, 3))
    distances, rows = filled(vectors, metric).search(queries, k)
    if metric == "l2":
        exact = np.sqrt(((vectors[None] - queries[:, None]) ** 2).sum(-1))
        assert np.array_equal(distances, np.sort(exact, axis=1)[:, :k])
        assert np.array_equal(rows, np.argsort(exact, axis=1, kind="stable")[:, :k])
    tied = np.diff(distances, axis=1) == 0
    assert (np.diff(distances, axis=1) >= 0).all() and (np.diff(rows, axis=1)[tied] > 0).all()


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_tie_across_the_kth_place_is_cut_by_row(k, reverse):
    """Mirror images of a query are at exactly one distance, which |a|^2 + |b|^2 - 2ab rounds to several."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        query, step = rng.integers(-(2**30), 2**30, (2, 5)).astype(float)
        vectors = np.concatenate((query + [step, -step, step, -step], [query + 9 * step]))[:: -1 if reverse else 1]
        distances, rows = filled(vectors, "l2").search([query], k)
        assert rows.tolist() == [list(range(reverse, reverse + k))]
        assert (distances == np.sqrt(np.sum(step * step))).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 7, 50, 100])
def test_of_equal_vectors_the_first_are_found(metric, k):
    vector = np.random.default_rng(1).normal(size=37)
    others = -np.ones((3, 37))
    distances, rows = filled(np.concatenate((others, np.tile(vector, (101, 1)))), metric).search([vector], k)
    assert rows[0].tolist() == list(range(3, 3 + k)) and not distances.any()


def test_neighbours_within_a_tight_cluster_far_from_another_are_exact():
    """Two clusters 10^6 apart and 10^-3 wide: squares of 10^12 leave no digit for distances of 10^-3."""
    rng = np.random.default_rng(8)
    vectors = np.concatenate((rng.normal(size=(30, 3)) * 1e-3, rng.normal(size=(30, 3)) * 1e-3 + 1e6))
    exact = np.sqrt(((vectors[None] - vectors[:, None]) ** 2).sum(-1))
    distances, rows = filled(vectors, "l2").search(vectors, 10)
    assert np.array_equal(rows, np.argsort(exact, axis=1, kind="stable")[:, :10])
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :10], rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_vectors_are_at_distance_zero_and_come_by_row(metric):
    vector = np.random.default_rng(1).normal(size=37)
    distances, rows = filled(np.tile(vector, (101, 1)), metric).search([vector], 101)
    assert (distances == 0).all()
    assert rows[0].tolist() == list(range(101))


def test_cosine_ignores_length_and_a_zero_vector_is_at_distance_one():
    distances, rows = filled([[0, 0], [5, 0], [-1, 0], [0, 2]], "cosine").search([[3, 0], [0, 0]], 4)
    assert rows.tolist() == [[1, 0, 3, 2], [0, 1, 2, 3]]
    assert distances.tolist() == [[0, 1, 1, 2], [1, 1, 1, 1]]


def test_small_distances_far_from_the_origin_are_exact():
    vectors = 1e8 + np.array([[0.0], [1.0], [3.0], [3.5]])
    distances, rows = filled(vectors, "l2").search([[1e8 + 3.25]], 3)
    assert rows.tolist() == [[2, 3, 1]]
    assert distances.tolist() == [[0.25, 0.25, 2.25]]


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_and_additions_in_parts_do_not_show(metric, monkeypatch):
    rng = np.random.default_rng(2)
    vectors, queries = rng.normal(size=(90, 5)).astype(np.float32), rng.normal(size=(33, 5))
    expected = filled(vectors, metric).search(queries, 9)
    monkeypatch.setattr(nearest, "_BLOCK", 400)
    parts = Index(metric)
    for start in range(0, 90, 40):
        parts.add(vectors[start : start + 40])
        assert np.array_equal(parts.vectors, vectors[: start + 40])
        so_far = filled(vectors[: start + 40], metric).search(queries, 9)
        for found, wanted in zip(parts.search(queries, 9), so_far, strict=True):
            assert np.array_equal(found, wanted)
    assert len(parts) == 90
    for found, wanted in zip(parts.search(queries, 9), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_later_changes_of_the_callers_array_do_not_affect_the_index():
    vectors = np.eye(3)
    index = filled(vectors, "l2")
    vectors[:] = 7
    assert index.search([[1, 0, 0]], 1)[1].item() == 0


def test_no_queries_give_no_rows():
    distances, rows = filled(np.eye(3), "l2").search(np.empty((0, 3)), 2)
    assert distances.shape == rows.shape == (0, 2)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    rng = np.random.default_rng(3)
    index = filled(rng.normal(size=(20, 4)).astype(np.float32), "l2")
    index.save(tmp_path / "index.h5")
    loaded = Index.load(tmp_path / "index.h5")
    assert (loaded.metric, loaded.vectors.dtype) == ("l2", np.float32)
    queries = rng.normal(size=(5, 4))
    for found, wanted in zip(loaded.search(queries, 3), index.search(queries, 3), strict=True):
        assert np.array_equal(found, wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["index.h5"]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Index("dot"), "Index: metric is 'dot', expected one of cosine, l2"),
    (lambda: Index().search([[1.0]], 1), "it is empty"),
    (lambda: filled(np.eye(3), "l2").search(np.eye(3), 4), "k is 4, expected 1 to 3"),
    (lambda: filled(np.eye(3), "l2").search(np.eye(3), 0), "k is 0, expected 1 to 3"),
    (lambda: filled(np.eye(3), "l2").search(np.eye(2), 1), "queries have 2 numbers, the vectors of the index have 3"),
    (lambda: filled(np.eye(3), "l2").add(np.eye(2)), "vectors have 2 numbers, expected 3"),
    (lambda: filled(np.eye(3), "l2").search([[1, np.nan, 0]], 1), "queries have NaN"),
    (lambda: filled([[1], [np.inf]], "l2"), "vectors have NaN, infinite .* in 1 of 2 rows, first in row 1"),
    (lambda: filled(np.empty((0, 3)), "l2").search(np.eye(3), 1), "Index.search: the index is empty"),
    (lambda: filled(np.eye(3), "l2").search(np.eye(3), 1.5), "k is 1.5, expected an integer"),
    (lambda: filled(np.ones(3), "l2"), r"vectors have shape \(3,\), expected \(S, C\)"),
    (lambda: filled(["a"], "l2"), "vectors are list of dtype <U1, expected an array of real numbers"),
    (lambda: Index(np.eye(3)), r"metric is ndarray, expected one of cosine, l2: .* index.add\(vectors\)"),
])
def test_arguments_that_do_not_fit_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index))])
def test_a_copy_finds_the_same_before_and_after_use(copied):
    index, queries = filled(np.random.default_rng(4).normal(size=(20, 4)), "l2"), np.eye(4)
    fresh = copied(index)
    expected = index.search(queries, 3)
    for other in (fresh, copied(index)):
        assert other.metric == "l2" and np.array_equal(other.vectors, index.vectors)
        for found, wanted in zip(other.search(queries, 3), expected, strict=True):
            assert np.array_equal(found, wanted)
    fresh.add(np.zeros((1, 4)))
    assert (len(fresh), len(index)) == (21, 20)


def test_files_that_are_not_an_index_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        Index.load(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        Index.load(tmp_path / "text.h5")
    filled(np.eye(50), "l2").save(tmp_path / "index.h5")
    whole = (tmp_path / "index.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.h5: truncated or damaged"):
        Index.load(tmp_path / "cut.h5")
