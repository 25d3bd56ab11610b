"""Indices and descriptors whose vectors stay in their files: the same results, and no copy in memory."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from command_line import ENVIRONMENT

from sparsenet.files import seal
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.retrieval import Descriptors, Index, nearest, stored
from sparsenet.retrieval.descriptors import open_vectors
from sparsenet.retrieval.space import Space


@pytest.fixture(params=["cosine", "l2"])
def metric(request):
    return request.param


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few queries and rows, and results in several turns."""
    monkeypatch.setattr(nearest, "_BLOCK", 60)
    monkeypatch.setattr(nearest, "_QUERIES", 5)
    monkeypatch.setattr(nearest, "_PAIRS", 70)
    monkeypatch.setattr(stored, "NUMBERS", 50)


@pytest.fixture
def threads():
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


def clouds():
    """Vectors with ties, zeros and near twins, and clusters that are far apart."""
    rng = np.random.default_rng(4)
    lattice = rng.integers(-1, 2, (70, 4))
    far = np.concatenate((1e-3 * rng.normal(size=(30, 4)), 1e-3 * rng.normal(size=(30, 4)) + 1e6))
    return np.concatenate((lattice, lattice[:20] * (1 + 2.0**-20), far, np.tile(far[3], (9, 1)))).astype(np.float32)


def mapped(vectors, path):
    np.save(path, vectors)
    return np.load(path, mmap_mode="r")


def every_distance(vectors, queries, metric):
    """Distances (Q, N), each computed from the difference of two vectors, and the rows in their order."""
    space = Space(vectors.astype(np.float64), metric)
    placed = space.place(queries.astype(np.float64))
    distances = np.stack([space.distances(query, np.arange(len(vectors))) for query in placed])
    return distances, np.argsort(distances, axis=1, kind="stable")


@pytest.mark.parametrize("k", [1, 4, 25, 159])
def test_blocks_of_a_file_give_the_exact_neighbours(metric, k, small_blocks, threads, tmp_path):
    """Ties across the k-th place, cancellation and zero vectors, on any number of threads."""
    vectors = clouds()
    index = Index(metric)
    index.add(mapped(vectors, tmp_path / "v.npy"))
    queries = np.concatenate((vectors[::7], vectors[:3] + 0.25))
    distances, order = every_distance(vectors, queries, metric)
    for number in (1, 2, 5):
        threads(number)
        found, rows = index.search(queries, k)
        assert np.array_equal(rows, order[:, :k])
        assert np.array_equal(found, np.take_along_axis(distances, rows, 1))


@pytest.mark.parametrize("radius", [0.0, 1.0, 3.5])
def test_all_within_a_radius(metric, radius, small_blocks, tmp_path):
    vectors = clouds()
    index = Index(metric)
    index.add(mapped(vectors, tmp_path / "v.npy"))
    splits, found, rows = index.range_search(vectors[::9], radius)
    distances, order = every_distance(vectors, vectors[::9], metric)
    for query, (start, stop) in enumerate(zip(splits, splits[1:], strict=False)):
        near = (distances[query] <= radius + 2.0**-46 if metric == "cosine" else
                distances[query] ** 2 <= radius**2 * (1 + 2.0**-40))
        assert np.array_equal(rows[start:stop], [row for row in order[query] if near[row]])
        assert np.array_equal(found[start:stop], distances[query, rows[start:stop]])


def test_files_and_memory_make_one_index(metric, small_blocks, tmp_path):
    vectors = clouds()
    index, whole = Index(metric), Index(metric)
    whole.add(vectors)
    for start, stop, on_disk in ((0, 40, True), (40, 50, False), (50, 60, False), (60, 159, True)):
        part = vectors[start:stop]
        index.add(mapped(part, tmp_path / f"{start}.npy") if on_disk else part)
    expected = whole.search(vectors[::5], 12)
    for other in (index, pickle.loads(pickle.dumps(index))):
        assert np.array_equal(other.vectors, vectors)
        for found, own in zip(other.search(vectors[::5], 12), expected, strict=True):
            assert np.array_equal(found, own)
    for one in (index, whole):
        one.remove([3, 45, 158])
    for found, own in zip(index.search(vectors[::5], 12), whole.search(vectors[::5], 12), strict=True):
        assert np.array_equal(found, own)


def test_an_index_in_its_file(metric, tmp_path):
    vectors = clouds()
    index = Index(metric)
    index.add(vectors)
    index.remove([7])
    index.save(tmp_path / "i.h5")
    loaded = Index.load(tmp_path / "i.h5", memory_map=True)
    assert isinstance(loaded.vectors, np.memmap) and loaded.vectors.dtype == np.float32
    for found, own in zip(loaded.search(vectors[:9], 5), index.search(vectors[:9], 5), strict=True):
        assert np.array_equal(found, own)


def test_descriptors_in_their_file(metric, tmp_path):
    vectors = clouds()
    Descriptors(vectors, np.full(159, -1), [str(n) for n in range(159)]).save(tmp_path / "d.h5")
    found = Descriptors.load(tmp_path / "d.h5", memory_map=True)
    assert isinstance(found.vectors, np.memmap) and np.array_equal(found.vectors, vectors)
    index = found.index(metric)
    assert index.vectors is found.vectors and found.index(metric) is index
    for name in ("d.h5", "d.npy"):
        np.save(tmp_path / "d.npy", vectors)
        opened = open_vectors(tmp_path / name)
        assert isinstance(opened, np.memmap) and np.array_equal(opened, vectors)
    Descriptors(vectors[:0], [], []).save(tmp_path / "none.h5")
    assert open_vectors(tmp_path / "none.h5").shape == (0, 4)


def test_files_that_cannot_be_mapped_are_refused(tmp_path):
    Descriptors(np.ones((4, 3)), np.full(4, -1), list("abcd")).save(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        del file["vectors"]
        file.create_dataset("vectors", data=np.ones((4, 3), np.float32), chunks=(2, 3))
    seal(tmp_path / "d.h5")
    with pytest.raises(ValueError, match="vectors is not numbers in one piece, which alone can be memory-mapped"):
        open_vectors(tmp_path / "d.h5")
    assert len(Descriptors.load(tmp_path / "d.h5")) == 4
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x.npy: not an array of numbers in NumPy's format"):
        open_vectors(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", np.array(["a"]))
    with pytest.raises(TypeError, match="y.npy are memmap of dtype <U1, expected an array of real numbers"):
        open_vectors(tmp_path / "y.npy")
    np.save(tmp_path / "z.npy", np.array([[1.0], [np.nan]]))
    with pytest.raises(ValueError, match="in 1 of 2 rows, first in row 1"):
        Index().add(open_vectors(tmp_path / "z.npy"))


CHILD = """
import json, sys, tracemalloc
import numpy as np
from sparsenet.kernels import set_num_threads
from sparsenet.retrieval import Index
from sparsenet.retrieval.descriptors import open_vectors

def held():  # memory of this process that no file backs
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000

path, metric = sys.argv[1:]
set_num_threads(2)
queries = np.random.default_rng(1).standard_normal((300, 96))
small = Index(metric)
small.add(queries)
small.search(queries, 10)  # scratch memory of BLAS
before = held()
tracemalloc.start()
index = Index(metric)
index.add(open_vectors(path))
index.search(queries[:1], 10)
index.search(queries, 10)
index.range_search(queries[:2], 0.5)
print(json.dumps({"peak": tracemalloc.get_traced_memory()[1] / 1e6, "held": held() - before,
                  "file": index.vectors.nbytes / 1e6}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
@pytest.mark.parametrize("name", ["v.npy", "v.h5"])
def test_a_search_holds_no_copy_of_a_file(name, metric, tmp_path):
    """A file of 115 MB, whose float64 copy would have 230."""
    vectors = np.random.default_rng(0).standard_normal((300_000, 96), np.float32)
    if name == "v.npy":
        np.save(tmp_path / name, vectors)
    else:
        Descriptors(vectors, np.full(len(vectors), -1), np.arange(len(vectors)).astype(str)).save(tmp_path / name)
    done = subprocess.run([sys.executable, "-P", "-c", CHILD, tmp_path / name, metric], env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=120, check=True)
    (tmp_path / name).unlink()
    found = json.loads(done.stdout)
    assert found["file"] > 115 and found["peak"] < 75 and found["held"] < 100
