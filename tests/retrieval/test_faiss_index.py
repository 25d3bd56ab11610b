"""Indices of faiss: exact where they say so, the recall that they state, saved, memory-mapped, in shards."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from benchmarks import descriptor_index
from sparsenet.retrieval import Descriptors, Index
from sparsenet.retrieval.faiss_index import KINDS, FaissIndex, recall
from sparsenet.retrieval.index_shards import IndexShards

pytestmark = pytest.mark.extra("faiss")


@pytest.fixture(scope="module")
def vectors():
    """2,000 vectors around 50 centres."""
    rng = np.random.default_rng(4)
    return (rng.standard_normal((50, 16))[rng.integers(50, size=2000)]
            + 0.3 * rng.standard_normal((2000, 16))).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_exact_neighbours_are_those_of_index(vectors, metric):
    index = Index(metric)
    index.add(vectors)
    distances, rows = FaissIndex.build(vectors, "exact", metric).search(vectors[:40] + 0.01, 7)
    expected = index.search(vectors[:40] + 0.01, 7)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_allclose(distances, expected[0], atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_says_its_recall_and_comes_back_from_a_file(kind, vectors, tmp_path):
    index = FaissIndex.build(vectors, kind, "cosine", lists=None if kind == "exact" else 20, links=8)
    assert len(index) == 2000
    measured = index.measure(vectors, queries=200)
    values = [measured[effort] for effort in sorted(measured)]
    assert values == sorted(values)
    assert values[-1] == 1 if kind in ("exact", "ivf") else values[-1] > (0.5 if kind == "ivfpq" else 0.95)
    index.save(tmp_path / "x.faiss")
    expected = index.search(vectors[:20], 5)
    for other in (FaissIndex.load(tmp_path / "x.faiss"), FaissIndex.load(tmp_path / "x.faiss", memory_map=True),
                  pickle.loads(pickle.dumps(index))):
        assert (other.kind, other.metric, other.effort, other.recalls) == (kind, "cosine", index.effort, measured)
        for found, own in zip(other.search(vectors[:20], 5), expected, strict=True):
            np.testing.assert_array_equal(found, own)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_built_alike_each_time(kind, vectors, tmp_path):
    for name in ("a", "b"):
        FaissIndex.build(vectors, kind, "l2", links=8).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_search_that_finds_too_few_says_so(vectors):
    index = FaissIndex.build(vectors, "ivf", "l2", lists=40, effort=1)
    distances, ids = index.search(vectors[:3], 1500)
    assert (ids[:, -1] == -1).all() and np.isinf(distances[:, -1]).all() and (ids[:, 0] == [0, 1, 2]).all()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_shards_are_merged_exactly(vectors, metric):
    repeated = np.vstack([vectors[:700], vectors[:100]])  # equal distances in two shards
    whole = FaissIndex.build(repeated, "exact", metric)
    for borders in ([0, 800], [0, 300, 700, 800], [0, 1, 799, 800]):
        parts = [FaissIndex.build(repeated[start:stop], "exact", metric)
                 for start, stop in zip(borders, borders[1:], strict=False)]
        shards = IndexShards(parts)
        assert len(shards) == 800
        distances, ids = shards.search(vectors[:30] + 0.02, 12)
        expected, rows = whole.search(vectors[:30] + 0.02, 12)
        np.testing.assert_allclose(distances, expected, atol=1e-6)
        for own, wanted, near in zip(ids, rows, distances, strict=True):
            assert (np.diff(near) >= 0).all() and set(own[:-2]) <= set(wanted) | {row % 700 for row in wanted} | {
                row + 700 for row in wanted if row < 100}
    exact = [Index(metric), Index(metric)]
    exact[0].add(repeated[:300])
    exact[1].add(repeated[300:])
    alone = Index(metric)
    alone.add(repeated)
    for found, own in zip(IndexShards(exact).search(vectors[:9], 20), alone.search(vectors[:9], 20), strict=True):
        np.testing.assert_array_equal(found, own)


def test_recall_counts_what_was_found():
    assert recall(np.array([[1, 2, -1], [4, 5, 6]]), np.array([[2, 1, 3], [7, 8, 4]])) == 0.5
    assert recall(np.zeros((0, 3), int), np.zeros((0, 3), int)) == 0


def test_errors_say_what_to_do(vectors, tmp_path):
    wrong = [({"kind": "tree"}, "kind is 'tree', expected one of exact, ivf, hnsw, ivfpq"),
             ({"lists": 0}, "lists is 0, expected a whole number from 1 to 2000"),
             ({"kind": "ivfpq", "codes": 5}, "codes is 5, expected a divisor of the 16 numbers"),
             ({"metric": "ip"}, "metric is 'ip'"), ({"effort": 0}, "effort is 0, expected a positive whole number")]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            FaissIndex.build(vectors, **options)
    with pytest.raises(ValueError, match=r"vectors have shape \(0, 4\), expected \(N, C\), at least one"):
        FaissIndex.build(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="row 1 of a block of vectors is zero, which has no direction"):
        FaissIndex.build(np.array([[1.0, 0], [0, 0]]), "exact")
    index = FaissIndex.build(vectors, "exact")
    with pytest.raises(ValueError, match="queries have 3 numbers, the vectors of the index have 16"):
        index.search(np.ones((1, 3)), 1)
    with pytest.raises(ValueError, match="k is 2001, expected 1 to 2000"):
        index.search(vectors[:1], 2001)
    with pytest.raises(TypeError, match="k is 1.5, expected an integer"):
        index.search(vectors[:1], 1.5)
    with pytest.raises(ValueError, match="expected one or more shards of one metric"):
        IndexShards([index, Index("l2")])
    odd = Index("cosine")
    odd.add(vectors[:3], ids=[0, 2, 1])
    with pytest.raises(ValueError, match="IndexShards: the ids of shard 1 are not its rows"):
        IndexShards([index, odd])
    with pytest.raises(ValueError, match="measure: 5 vectors, expected the 2000 that the index was built of"):
        index.measure(vectors[:5])
    with pytest.raises(FileNotFoundError, match="no such file: `sparsenet index build` writes both"):
        FaissIndex.load(tmp_path / "x")
    index.save(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"nothing at all")
    with pytest.raises(ValueError, match="x is damaged"):
        FaissIndex.load(tmp_path / "x")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="x.json is not that of an index"):
        FaissIndex.load(tmp_path / "x")


def test_the_benchmark_measures_each_kind(tmp_path, vectors):
    """Here, without a process for each."""
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "queries.npy", vectors[:20] + 0.01)
    (truth,) = descriptor_index.exact_search(tmp_path, tmp_path / "v.npy", 1500, "cosine", 1)
    assert truth["ms_a_query"] > 0 and truth["bytes"] == 1500 * 16 * 4
    for kind in KINDS:
        rows = descriptor_index.built_and_searched(tmp_path, tmp_path / "v.npy", 1500, kind, "cosine", 1, False)
        assert all(row["bytes"] > 0 and row["ms_a_query"] > 0 and 0 < row["recall_at_10"] <= 1 for row in rows)
        assert kind != "exact" or rows[0]["recall_at_10"] > 0.99
    assert not list(tmp_path.glob("*.faiss*"))


def test_the_benchmark_goes_on_and_extrapolates(tmp_path, vectors, capsys):
    Descriptors(vectors, np.full(2000, -1), np.arange(2000).astype(str)).save(tmp_path / "d.h5")
    words = ["--count", "1500", "--first", "400", "--queries", "20", "--folder", str(tmp_path), "--descriptors",
             str(tmp_path / "d.h5"), "--kinds", "hnsw", "--width", "12"]
    rows = descriptor_index.main(words)
    assert {(row["kind"], row["vectors"]) for row in rows} == {
        (kind, count) for kind in ("Index", "hnsw") for count in (400, 1500)}
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
    assert np.load(tmp_path / "real-1500-12.npy").shape == (1500, 12)
    assert descriptor_index.main(words) == rows and capsys.readouterr() == ("", "")

    (tmp_path / "results.jsonl").write_text("\n".join(json.dumps(row) for row in rows if (
        row["kind"], row["vectors"]) != ("hnsw", 1500)) + "\n")
    (found,) = [row for row in descriptor_index.main([*words, "--hours", "0"]) if "extrapolated_from" in row]
    first = next(row for row in rows if (row["kind"], row["vectors"]) == ("hnsw", 400))
    growth = 1500 * math.log(1500) / (400 * math.log(400))
    assert found["build_s"] == round(first["build_s"] * growth) and "recall_at_10" not in found


def test_principal_components_keep_angles(vectors):
    low = np.hstack([vectors[:, :5], vectors[:, :5] @ np.ones((5, 3), np.float32)])  # of five dimensions
    found = descriptor_index.narrowed(low, 5)
    np.testing.assert_allclose(found @ found.T, low @ low.T, atol=1e-3)
    assert found.dtype == np.float32 and descriptor_index.narrowed(low, 9).shape == low.shape
