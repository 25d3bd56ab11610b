"""`sparsenet index build`, `search` and `info`, and `sparsenet search --index`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sparsenet.cli import main as command_line
from sparsenet.retrieval import Descriptors, Index
from sparsenet.retrieval.faiss_index import FaissIndex
from sparsenet.retrieval.index_files import open_index, open_indices

faiss = pytest.mark.extra("faiss")


def run(capsys, *arguments):
    assert command_line([str(word) for word in arguments]) == 0
    return capsys.readouterr().out


def error(capsys, *arguments, code=1):
    try:
        assert command_line([str(word) for word in arguments]) == code
    except SystemExit as stopped:
        assert stopped.code == code
    return capsys.readouterr().err


@pytest.fixture
def vectors(rng):
    """2,000 vectors around 50 centres."""
    return (rng.normal(size=(50, 16))[rng.integers(50, size=2000)] + 0.3 * rng.normal(size=(2000, 16))
            ).astype(np.float32)


@pytest.fixture
def files(vectors, tmp_path):
    """d.h5, d.npy, and q.h5 with the first three of them as queries."""
    names = [f"shape {number}" for number in range(2000)]
    Descriptors(vectors, np.full(2000, -1), names, checkpoint="ab" * 32).save(tmp_path / "d.h5")
    Descriptors(vectors[:3], np.full(3, -1), ["a", "b", "c"]).save(tmp_path / "q.h5")
    np.save(tmp_path / "d.npy", vectors)
    return tmp_path


@faiss
def test_what_is_built_is_described_and_searched(files, vectors, capsys):
    for source in ("d.h5", "d.npy"):
        out = run(capsys, "index", "build", files / source, files / f"{source}.faiss", "--kind", "ivf", "--lists", "20",
                  "--queries", "100")
        assert f"{source}.faiss: 2,000 vectors of 16 numbers, ivf, cosine" in out
        assert "recall@10 with effort 16: " in out
    assert (files / "d.h5.faiss").read_bytes() == (files / "d.npy.faiss").read_bytes()
    assert json.loads((files / "d.h5.faiss.json").read_text())["recalls"]["64"] == 1
    out = run(capsys, "index", "info", files / "d.h5.faiss", files / "d.npy")
    assert "2,000 vectors of 16 numbers, ivf, cosine, " in out and "lists 20, effort 16\n" in out
    assert "of the weights abababababab\n" in out and "recall@10 with effort 64: 100.0%" in out
    assert "d.npy: 2,000 vectors of 16 numbers, compared one by one, cosine" in out

    out = run(capsys, "index", "search", files / "q.h5", files / "d.h5.faiss", "-k", "2", "--names", files / "d.h5")
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert lines[0] == ["query", "rank", "name        distance"] and len(lines) == 7
    assert [line[:2] for line in lines[1:]] == [[name, rank] for name in "abc" for rank in "12"]
    assert lines[1][2].startswith("shape 0 ") and lines[1][2].endswith(" 0.000000")
    out = run(capsys, "index", "search", files / "d.npy", files / "d.h5.faiss", "--effort", "20", "--output",
              files / "found.npz")
    assert "found.npz: the 10 nearest of 2,000 queries" in out
    exact = Index()
    exact.add(vectors)
    with np.load(files / "found.npz") as found:
        assert np.mean(found["rows"] == exact.search(vectors, 10)[1]) > 0.99
        assert found["distances"].shape == (2000, 10)


@faiss
@pytest.mark.parametrize(("kind", "line"), [("hnsw", "links 8, effort 64"), ("ivfpq", "lists 20, codes 4, effort 16"),
                                            ("exact", "recall@10: 100.0%")])
def test_each_kind_tells_its_settings(kind, line, files, capsys):
    run(capsys, "index", "build", files / "d.npy", files / "x.faiss", "--kind", kind, "--lists", "20", "--links", "8",
        "--codes", "4", "--queries", "50", "--metric", "l2")
    out = run(capsys, "index", "info", files / "x.faiss")
    assert f"{kind}, l2, " in out and line in out.splitlines()


def test_descriptors_are_searched_without_an_index_and_several_as_one(files, vectors, capsys):
    for start, stop, name in ((0, 700, "one.npy"), (700, 2000, "two.npy")):
        np.save(files / name, vectors[start:stop])
    whole = run(capsys, "index", "search", files / "q.h5", files / "d.h5", "--metric", "l2")
    assert whole == run(capsys, "index", "search", files / "q.h5", files / "one.npy", files / "two.npy", "--metric",
                        "l2")
    index = Index("l2")
    index.add(vectors)
    index.save(files / "index.h5")
    assert whole == run(capsys, "index", "search", files / "q.h5", files / "index.h5")
    assert isinstance(open_index(files / "index.h5").vectors, np.memmap)
    distances, rows = index.search(vectors[:1], 10)
    assert [line.split() for line in whole.splitlines()[1:11]] == [
        ["a", str(rank), str(row), f"{distance:.6f}"]
        for rank, (row, distance) in enumerate(zip(rows[0], distances[0], strict=True), 1)]


def test_wrong_use_says_what_to_do(files, vectors, capsys):
    index = Index("l2")
    index.add(vectors)
    index.save(files / "index.h5")
    for arguments, message in (
            (["index.h5", "--metric", "cosine"], "it compares by l2, not by cosine: build another index"),
            (["d.h5", "--effort", "3"], "it is searched exactly, without an effort: leave the effort out"),
            (["none.faiss"], "none.faiss: no such file"),
            (["d.npy", "--names", "q.h5"], "3 names, expected 2000, one for each vector")):
        words = [files / word if "." in word else word for word in arguments]
        assert message in error(capsys, "index", "search", files / "q.h5", *words)
    assert "does not end in .npz" in error(capsys, "index", "search", files / "q.h5", files / "d.h5", "--output",
                                           files / "x.csv", code=2)
    assert "-k: 0 is not a positive" in error(capsys, "index", "search", files / "q.h5", files / "d.h5", "-k", "0",
                                              code=2)
    np.save(files / "narrow.npy", vectors[:, :5])
    assert "queries have 5 numbers, the vectors of the index have 16" in error(
        capsys, "index", "search", files / "narrow.npy", files / "d.h5")
    assert "ACTION" in error(capsys, "index", code=2)
    with pytest.raises(ValueError, match="the metrics of the shards are .*, expected one or more shards of one metric"):
        open_indices([files / "index.h5", files / "d.h5"])


@faiss
def test_a_mesh_is_searched_in_an_index(experiment, tmp_path, capsys):
    query = experiment.write_mesh(4, tmp_path / "query.off")
    descriptors, index = tmp_path / "d.h5", tmp_path / "d.faiss"
    run(capsys, "embed", experiment.checkpoint, descriptors, "--quiet")
    run(capsys, "index", "build", descriptors, index, "--kind", "ivf", "--lists", "3", "--metric", "l2", "--effort",
        "3")
    words = ["search", experiment.checkpoint, query, "--descriptors", descriptors, "-k", "4", "--metric", "l2"]
    expected = run(capsys, *words)
    found = run(capsys, *words, "--index", index)
    columns = [[line.split()[:3] for line in text.splitlines()] for text in (found, expected)]
    assert columns[0] == columns[1] and len(columns[0]) == 5
    assert len(run(capsys, *words, "--index", index, "--effort", "1").splitlines()) <= 5
    assert "argument --index: needs --descriptors" in error(
        capsys, "search", experiment.checkpoint, query, "--index", index, code=2)
    assert "argument --effort: needs --index" in error(capsys, *words, "--effort", "1", code=2)
    opened = FaissIndex.load(index)
    opened.checkpoint = "cd" * 32
    opened.save(index)
    assert "made of descriptors of other weights" in error(capsys, *words, "--index", index)
    part = Descriptors.load(descriptors)
    FaissIndex.build(part.vectors[:5], "exact", "l2").save(index)
    assert "the index has 5 vectors, the descriptors are" in error(capsys, *words, "--index", index)
