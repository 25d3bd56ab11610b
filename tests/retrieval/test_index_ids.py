"""Ids, removal, range search, and FAISS."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest

from sparsenet.retrieval import Descriptors, Index, nearest


@pytest.fixture(params=["cosine", "l2"])
def metric(request):
    return request.param


def filled(metric, rng, count=60, channels=5, lattice=False):
    vectors = rng.normal(size=(count, channels))
    vectors = np.rint(1.2 * vectors) if lattice else vectors
    index = Index(metric)
    index.add(vectors)
    return index, vectors


def direct_distances(queries, vectors, metric):
    if metric == "l2":
        return np.sqrt(((queries[:, None] - vectors[None]) ** 2).sum(-1))
    unit = [v / np.where(np.linalg.norm(v, axis=1) == 0, 1, np.linalg.norm(v, axis=1))[:, None]
            for v in (queries, vectors)]
    return 1 - np.round(unit[0] @ unit[1].T, 13)


# ---- ids ----


def test_ids_are_the_rows_unless_given():
    index = Index("l2")
    index.add([[0.0], [1], [2]])
    index.add([[3.0], [4]], ids=[70, 10])
    index.add([[5.0]])
    assert index.ids.tolist() == [0, 1, 2, 70, 10, 71] and index.ids.dtype == np.int64
    assert index.search([[3.4]], 3)[1].tolist() == [[70, 10, 2]]
    index.ids[0] = 9  # a copy
    assert index.ids[0] == 0


@pytest.mark.parametrize(("ids", "error", "message"), [
    ([1, 1], ValueError, "the id 1 is given twice"), ([0, 9], ValueError, "the id 0 is in the index already"),
    ([5], ValueError, r"ids have shape \(1,\), expected \(2,\)"), ([-1, 5], ValueError, "ids go from -1 to 5"),
    ([0.5, 7], TypeError, "ids have dtype float64, expected integers"),
    (np.array([5, 2**63], np.uint64), ValueError, "expected 0 to 2.63 - 2"),
])
def test_ids_that_do_not_fit_are_refused_and_nothing_is_added(ids, error, message):
    index = Index("l2")
    index.add([[0.0], [1]])
    with pytest.raises(error, match=message):
        index.add([[2.0], [3]], ids=ids)
    assert len(index) == 2 and index.ids.tolist() == [0, 1]


# ---- removal ----


def test_after_a_removal_the_others_keep_ids_and_order(metric, rng):
    index, vectors = filled(metric, rng, lattice=True)
    index.search(vectors[:1], 1)  # prepared before
    gone = [3, 59, 0, 17]
    index.remove(gone)
    kept = np.setdiff1d(np.arange(60), gone)
    other = Index(metric)
    other.add(vectors[kept])
    distances, ids = index.search(vectors, 9)
    expected, rows = other.search(vectors, 9)
    assert np.array_equal(ids, kept[rows]) and np.array_equal(distances, expected)
    assert index.ids.tolist() == kept.tolist() and np.array_equal(index.vectors, vectors[kept])


def test_removed_ids_are_not_given_again():
    index = Index("l2")
    index.add([[0.0], [1], [2]])
    index.remove(2)
    index.add([[5.0]])
    assert index.ids.tolist() == [0, 1, 3]
    index.remove([])
    index.add([[6.0]], ids=[2])  # but may be asked for
    assert index.ids.tolist() == [0, 1, 3, 2]


def test_an_id_that_is_not_there_removes_nothing():
    index = Index("l2")
    index.add([[0.0], [1], [2]])
    for ids, error, message in (([1, 7], ValueError, "the id 7 is not in the index of 3 vectors"),
                                ([1, 1], ValueError, "the id 1 is given twice"), ("a", TypeError, "expected integers")):
        with pytest.raises(error, match=message):
            index.remove(ids)
    assert len(index) == 3


def test_an_index_may_become_empty():
    index = Index()
    index.add(np.ones((2, 3)))
    index.remove([0, 1])
    assert len(index) == 0 and [part.tolist() for part in index.range_search(np.ones((1, 3)), 1)] == [[0, 0], [], []]
    with pytest.raises(ValueError, match="the index is empty"):
        index.search(np.ones((1, 3)), 1)
    index.add(np.ones((1, 3)))
    assert index.search(np.ones((1, 3)), 1)[1].tolist() == [[2]]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda index: pickle.loads(pickle.dumps(index)), "file"])
def test_ids_survive_files_and_copies(again, rng, tmp_path):
    index, vectors = filled("l2", rng, 6)
    index.remove([1, 5])
    if again == "file":
        index.save(tmp_path / "i.h5")
        other = Index.load(tmp_path / "i.h5")
    else:
        other = again(index)
    assert other.ids.tolist() == [0, 2, 3, 4]
    assert all(np.array_equal(*pair) for pair in zip(other.search(vectors, 4), index.search(vectors, 4), strict=True))
    other.add(vectors[:1])
    assert other.ids[-1] == 6


def test_an_index_whose_ids_are_its_rows_is_saved_as_before(rng, tmp_path):
    import h5py

    filled("l2", rng, 6)[0].save(tmp_path / "i.h5")
    with h5py.File(tmp_path / "i.h5") as file:
        assert file.attrs["version"] == 1 and set(file) == {"vectors"}
    assert Index.load(tmp_path / "i.h5").ids.tolist() == list(range(6))


# ---- range search ----


@pytest.mark.parametrize("lattice", [False, True])
def test_range_search_finds_all_within_the_radius(metric, rng, lattice, monkeypatch):
    index, vectors = filled(metric, rng, lattice=lattice)
    queries = np.concatenate((vectors[:20], rng.normal(size=(5, 5))))
    expected = direct_distances(queries, vectors, metric)
    for radius in (0, 0.31, 1, 2.5):
        if lattice:
            radius = np.sqrt(radius * 4 // 1) if metric == "l2" else radius
        whole = index.range_search(queries, radius)
        row_splits, distances, ids = whole
        for query in range(25):
            part = slice(row_splits[query], row_splits[query + 1])
            near = np.flatnonzero(expected[query] <= radius + 1e-12)
            assert sorted(ids[part].tolist()) == near.tolist()
            assert (np.diff(distances[part]) >= 0).all() and (distances[part] <= radius + 1e-11).all()
            np.testing.assert_allclose(distances[part], expected[query, ids[part]], atol=1e-7)
        monkeypatch.setattr(nearest, "_BLOCK", 200)
        assert all(np.array_equal(*pair) for pair in zip(whole, index.range_search(queries, radius), strict=True))
        monkeypatch.undo()


def test_range_search_agrees_with_search_and_includes_the_border(rng, metric):
    index, vectors = filled(metric, rng)
    distances, ids = index.search(vectors[:7], 60)
    for query in range(7):
        row_splits, near, found = index.range_search(vectors[query : query + 1], distances[query, 12])
        assert found.tolist() == ids[query, :13].tolist() and near.tolist() == distances[query, :13].tolist()
    assert index.range_search(vectors[:2], np.inf)[0].tolist() == [0, 60, 120]


def test_equal_vectors_are_within_0_in_the_order_they_were_added():
    index = Index("l2")
    index.add(np.array([[1e8, 1.0], [1e8, 2], [1e8, 1.0]]), ids=[9, 8, 7])
    row_splits, distances, ids = index.range_search([[1e8, 1.0], [0, 0]], 0)
    assert (row_splits.tolist(), distances.tolist(), ids.tolist()) == ([0, 2, 2], [0, 0], [9, 7])


@pytest.mark.parametrize(("queries", "radius", "error", "message"), [
    (np.ones((1, 3)), 1, ValueError, "Index.range_search: queries have 3 numbers, the vectors of the index have 2"),
    (np.ones((1, 2)), -1, ValueError, "radius is -1, expected 0 or more"),
    (np.ones((1, 2)), float("nan"), ValueError, "radius is nan"), (np.ones((1, 2)), "1", TypeError, "radius is '1'"),
    (np.full((1, 2), np.inf), 1, ValueError, "queries have NaN"),
])
def test_a_range_that_can_not_be_searched_is_refused(queries, radius, error, message):
    index = Index("l2")
    index.add(np.eye(2))
    with pytest.raises(error, match=message):
        index.range_search(queries, radius)


# ---- FAISS ----


def some(rng, count=80):
    return Descriptors(rng.normal(size=(count, 6)), np.zeros(count, int), [str(i) for i in range(count)], ["cup"])


@pytest.mark.extra("faiss")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its wrapper
def test_faiss_finds_the_same(rng, metric, tmp_path):
    import faiss

    descriptors = some(rng)
    queries = 3 * rng.normal(size=(10, 6)).astype(np.float32)
    expected, rows = descriptors.index(metric).search(queries, 7)
    index = descriptors.to_faiss(metric)
    scores, ids = index.search(queries, 7)
    assert np.array_equal(ids, rows)
    np.testing.assert_allclose(1 - scores if metric == "cosine" else np.sqrt(scores), expected, atol=1e-5)
    radius = float(np.median(expected))
    lims, _, found = index.range_search(queries, 1 - radius if metric == "cosine" else radius**2)
    row_splits, _, near = descriptors.index(metric).range_search(queries, radius)
    assert np.abs(np.diff(lims.astype(int)) - np.diff(row_splits)).max() <= 1  # one lies at the radius
    assert len(np.setxor1d(found, near)) <= 1
    index.remove_ids(np.array([rows[0, 0]]))
    assert index.search(queries, 1)[1][0, 0] == rows[0, 1] and index.ntotal == 79
    faiss.write_index(index, str(tmp_path / "f.index"))
    assert faiss.read_index(str(tmp_path / "f.index")).search(queries, 1)[1][0, 0] == rows[0, 1]


@pytest.mark.extra("faiss")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_faiss_takes_no_shapes_and_zero_vectors(rng, metric):
    assert some(rng, 0).to_faiss(metric).ntotal == 0
    descriptors = some(rng, 3)
    descriptors.vectors[1] = 0
    scores, ids = descriptors.to_faiss(metric).search(descriptors.vectors[:1], 3)
    assert ids[0, 0] == 0 and np.isfinite(scores).all()


def test_faiss_that_is_not_installed_is_named(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RuntimeError, match=r"needs faiss, which is not installed: pip install 'sparsenet\[faiss\]'"):
        some(rng).to_faiss()
    with pytest.raises(ValueError, match="metric is 'ip'"):
        some(rng).to_faiss("ip")
