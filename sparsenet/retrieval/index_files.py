"""Opens files to search: indices of any kind, and vectors themselves, which are then compared one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsenet.files import hdf5_kind
from sparsenet.retrieval.descriptors import FORMAT as DESCRIPTORS
from sparsenet.retrieval.descriptors import open_vectors
from sparsenet.retrieval.faiss_index import FaissIndex
from sparsenet.retrieval.index import FORMAT as INDEX
from sparsenet.retrieval.index import Index
from sparsenet.retrieval.index_shards import IndexShards, Searchable


def open_index(path: str | Path, metric: str | None = None) -> Index | FaissIndex:
    """The index in a file, memory-mapped: of `sparsenet index build`, or of `Index.save`; of descriptors, or a NumPy
    file (N, C), an `Index` of them, which is exact.

    metric : "cosine" or "l2"; default: that of the index, or "cosine" for vectors

    Raises
    ------
    FileNotFoundError, ValueError : no such file, or it is neither; an index of another metric.
    RuntimeError : an index of faiss, which is not installed.
    """
    kind = hdf5_kind(path)
    if kind == DESCRIPTORS or Path(path).suffix == ".npy":
        exact = Index(metric or "cosine")
        exact.add(open_vectors(path))
        return exact
    index = Index.load(path, memory_map=True) if kind == INDEX else FaissIndex.load(path, memory_map=True)
    if metric not in (None, index.metric):
        raise ValueError(f"{path}: it compares by {index.metric}, not by {metric}: build another index, or leave the "
                         "metric out")
    return index


def open_indices(paths: Sequence[str | Path], metric: str | None = None, effort: int | None = None
                 ) -> Searchable:
    """The index of one file, or several as one (`IndexShards`).

    effort : of the searches; default: as each index says

    Raises ValueError, besides those of `open_index`, for an effort that none of them has.
    """
    opened = [open_index(path, metric) for path in paths]
    if effort is not None:
        approximate = [one for one in opened if isinstance(one, FaissIndex) and one.kind != "exact"]
        if not approximate:
            raise ValueError(f"{paths[0]}: it is searched exactly, without an effort: leave the effort out")
        for one in approximate:
            one.effort = effort
    return opened[0] if len(opened) == 1 else IndexShards(opened)


def checkpoints_of(index: Searchable) -> set[str]:
    """sha256 of the weights of the networks whose descriptors the index has, as far as its files say."""
    shards = index.shards if isinstance(index, IndexShards) else [index]
    return {one.checkpoint for one in shards if isinstance(one, FaissIndex) and one.checkpoint}
