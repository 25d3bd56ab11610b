"""Nearest neighbours among millions of descriptors, by faiss (the extra `faiss`): exact or approximate, memory-mapped.

    kind     search                                                      bytes a vector     effort
    exact    every vector is compared                                    4 C                -
    ivf      those of the nearest of `lists` clusters                    4 C + 8            clusters looked at
    hnsw     along a graph with `links` neighbours for each vector       4 C + 8 links      candidates kept
    ivfpq    as ivf, each vector as `codes` bytes                        codes + 8          clusters looked at

More effort finds more of the true neighbours in more time; `recall` says how many.  Vectors are float32, and nothing
here keeps a copy of them in float64.  Cosines are compared as distances of unit vectors.  Unlike `Index`, faiss rounds
in float32, so distances and the order of near ties may differ in the last digits.

Sources: Johnson, Douze, Jegou, Billion-scale similarity search with GPUs (2019); Malkov, Yashunin, Efficient and robust
approximate nearest neighbor search using hierarchical navigable small world graphs (2018).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sparsenet.files import replacing, write_text
from sparsenet.retrieval.distances import METRICS, check_metric, check_vectors, unit_rows
from sparsenet.retrieval.index import Index
from sparsenet.retrieval.stored import blocks

KINDS = ("exact", "ivf", "hnsw", "ivfpq")
EFFORTS = {"exact": (1,), "ivf": (1, 4, 16, 64), "hnsw": (16, 64, 256), "ivfpq": (1, 4, 16, 64)}  # worth measuring
_ADDED = 1 << 14  # vectors that are converted at a time: enough for each thread to have a part of them
_SAMPLES = 64  # training vectors for each cluster
_FORMAT, _VERSION = "sparsenet-faiss", 1


class FaissIndex:
    """Vectors in an index of faiss; made by `build`, or read by `load`.  The id of a vector is its row.

    kind, metric : see KINDS, METRICS
    effort : of a search, see above; assignable
    recalls : effort -> the share of the true ten nearest neighbours that were found, as measured (`recall`)
    checkpoint : sha256 of the weights of the network that made the vectors, "" if unknown; assignable
    index : faiss's own object
    """

    def __init__(self, kind: str, metric: str, index: Any, effort: int, recalls: dict[int, float] | None = None,
                 checkpoint: str = ""):
        self.kind, self.metric, self.index, self.checkpoint = kind, metric, index, checkpoint
        self.recalls = dict(recalls or {})
        self.effort = effort

    @property
    def width(self) -> int:
        """The numbers of a vector."""
        return int(self.index.d)

    @property
    def settings(self) -> dict[str, int]:
        """Those of `lists`, `links` and `codes` (see `build`) that the kind has."""
        found = {}
        if self.kind in ("ivf", "ivfpq"):
            found["lists"] = int(self.index.nlist)
        if self.kind == "hnsw":
            found["links"] = int(self.index.hnsw.nb_neighbors(1))
        if self.kind == "ivfpq":
            found["codes"] = int(self.index.pq.M)
        return found

    @property
    def effort(self) -> int:
        return self._effort

    @effort.setter
    def effort(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"FaissIndex: effort is {value!r}, expected a positive whole number")
        self._effort = int(value)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @classmethod
    def build(cls, vectors: Any, kind: str = "ivf", metric: str = "cosine", lists: int | None = None, links: int = 32,
              codes: int | None = None, effort: int | None = None, seed: int = 0, threads: int = 1) -> FaissIndex:
        """Train an index on a sample of the vectors, and add all of them.

        vectors : (N, C) real numbers, such as a memory-mapped float32 array, which is read in blocks
        lists : clusters of ivf and ivfpq; default: about 4 sqrt(N), so that N is at least 39 times as many
        links : neighbours of a vector in the graph of hnsw
        codes : bytes of a vector in ivfpq, a divisor of C; default: the largest up to C / 4
        effort : of searches; default: 16 clusters, or 64 candidates
        seed : of the sample that is trained on
        threads : of faiss; the graph of hnsw is the same each time only with one

        Raises
        ------
        RuntimeError : faiss is not installed.
        TypeError, ValueError : vectors are not (N, C) finite numbers, at least one; a zero vector, if the metric is
            cosine; an unknown kind or metric; a setting out of range.
        """
        faiss = _faiss("FaissIndex.build")
        check_metric("FaissIndex.build", metric)
        if kind not in KINDS:
            raise ValueError(f"FaissIndex.build: kind is {kind!r}, expected one of {', '.join(KINDS)}")
        shape = np.shape(vectors)
        if len(shape) != 2 or not all(shape):
            raise ValueError(f"FaissIndex.build: vectors have shape {shape}, expected (N, C), at least one")
        count, width = shape
        lists = max(1, min(round(4 * count**0.5), count // 39)) if lists is None else lists
        codes = _largest_divisor(width, max(1, width // 4)) if codes is None else codes
        for name, value, limit in (("lists", lists, count), ("links", links, 1024), ("codes", codes, width),
                                   ("threads", threads, 1 << 16)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= limit:
                raise ValueError(f"FaissIndex.build: {name} is {value!r}, expected a whole number from 1 to {limit}")
        if width % codes:
            raise ValueError(f"FaissIndex.build: codes is {codes}, expected a divisor of the {width} numbers of a "
                             "vector")
        index = _made(faiss, kind, width, lists, links, codes)
        with _threads(faiss, threads):
            if kind in ("ivf", "ivfpq"):
                wanted = max(lists * _SAMPLES, 256 * 39 if kind == "ivfpq" else 1)
                rows = _sample(count, wanted, seed)
                sample = np.empty((len(rows), width), np.float32)
                for part in blocks(len(rows), width):
                    sample[part] = _placed(vectors, metric, rows[part])
                index.train(sample)
            for part in (slice(start, start + _ADDED) for start in range(0, count, _ADDED)):
                index.add(_placed(vectors, metric, part))
        usual = {"exact": 1, "hnsw": 64}.get(kind, min(16, lists))
        return cls(kind, metric, index, usual if effort is None else effort)

    def search(self, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest vectors of each query, as far as the effort finds them.

        queries : (Q, C) real numbers;  k : 1 to N

        Returns
        -------
        distances : (Q, k) float64, ascending;  ids : (Q, k) int64.  If the clusters that were looked at hold fewer than
            k vectors, the last distances are infinite and their ids -1.

        Raises TypeError, ValueError as `Index.search` does, and for a zero query if the metric is cosine.
        """
        faiss = _faiss("FaissIndex.search")
        width = self.index.d
        if np.ndim(queries) == 2 and np.shape(queries)[1] != width:
            raise ValueError(f"FaissIndex.search: queries have {np.shape(queries)[1]} numbers, the vectors of the "
                             f"index have {width}: embed them with the same network and layer")
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise TypeError(f"FaissIndex.search: k is {k!r}, expected an integer")
        if not 1 <= k <= len(self):
            raise ValueError(f"FaissIndex.search: k is {k}, expected 1 to {len(self)}, the number of vectors in the "
                             "index")
        placed = _placed(queries, self.metric, slice(None), "FaissIndex.search", "queries")
        options: dict[str, Any] = {}
        if self.kind in ("ivf", "ivfpq"):
            options["params"] = faiss.SearchParametersIVF(nprobe=min(self.effort, self.index.nlist))
        elif self.kind == "hnsw":
            options["params"] = faiss.SearchParametersHNSW(efSearch=max(self.effort, int(k)))
        squares, ids = self.index.search(placed, int(k), **options)
        squares = np.where(ids < 0, np.inf, np.maximum(squares.astype(np.float64), 0.0))
        return squares / 2 if self.metric == "cosine" else np.sqrt(squares), ids.astype(np.int64)

    def measure(self, vectors: Any, queries: int = 1000, k: int = 10, efforts: Sequence[int] | None = None,
                seed: int = 0) -> dict[int, float]:
        """Fill in `recalls`: for each effort the recall@k of queries that are drawn from the vectors of the index, each
        without itself.  vectors : those that it was built of; memory-mapped ones are compared in blocks

        Raises ValueError if their number is another."""
        if len(vectors) != len(self):
            raise ValueError(f"FaissIndex.measure: {len(vectors)} vectors, expected the {len(self)} that the index was "
                             "built of")
        rows = _sample(len(self), queries, seed)
        chosen = np.asarray(vectors[rows])
        exact = Index(self.metric)
        exact.add(vectors)
        _, truth = exact.search(chosen, min(k + 1, len(self)))
        before = self.effort
        try:
            for effort in EFFORTS[self.kind] if efforts is None else efforts:
                self.effort = effort
                _, found = self.search(chosen, truth.shape[1])
                self.recalls[effort] = recall(_others(found, rows), _others(truth, rows))
        finally:
            self.effort = before
        return dict(self.recalls)

    def save(self, path: str | os.PathLike) -> None:
        """Write faiss's file, and beside it, with .json added to its name, kind, metric, effort and recalls."""
        faiss = _faiss("FaissIndex.save")
        with replacing(path) as beside:
            faiss.write_index(self.index, os.fspath(beside))
        write_text(_notes(path), json.dumps({
            "format": _FORMAT, "version": _VERSION, "kind": self.kind, "metric": self.metric, "effort": self.effort,
            "vectors": len(self), "checkpoint": self.checkpoint,
            "recalls": {str(effort): value for effort, value in self.recalls.items()}}))

    @classmethod
    def load(cls, path: str | os.PathLike, memory_map: bool = False) -> FaissIndex:
        """Read an index written by `save`.  Only read files that you trust: faiss checks little.

        memory_map : leave the vectors in the file, which must stay; searches read the pages that they need

        Raises
        ------
        FileNotFoundError, ValueError : a file is missing, or they are not those of an index.
        """
        faiss = _faiss("FaissIndex.load")
        for needed in (Path(path), _notes(path)):
            if not needed.exists():
                raise FileNotFoundError(f"FaissIndex.load: {needed}: no such file: `sparsenet index build` writes both")
        try:
            notes = json.loads(_notes(path).read_text(encoding="utf-8"))
            kind, metric, effort = notes["kind"], notes["metric"], notes["effort"]
            recalls = {int(name): float(value) for name, value in notes["recalls"].items()}
            checkpoint = str(notes.get("checkpoint", ""))
            if (notes["format"], notes["version"]) != (_FORMAT, _VERSION) or kind not in KINDS or metric not in METRICS:
                raise ValueError("of another format or version")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"FaissIndex.load: {_notes(path)} is not that of an index ({error}): build it again"
                             ) from None
        flags = 0
        if memory_map:
            flags = faiss.IO_FLAG_MMAP if kind in ("ivf", "ivfpq") else faiss.IO_FLAG_MMAP_IFC
        try:
            index = faiss.read_index(os.fspath(path), flags)
        except RuntimeError as error:
            raise ValueError(f"FaissIndex.load: {path} is damaged ({str(error).splitlines()[0]}): build it again"
                             ) from None
        if index.ntotal != notes["vectors"]:
            raise ValueError(f"FaissIndex.load: {path} has {index.ntotal} vectors, {_notes(path)} says "
                             f"{notes['vectors']}: build it again")
        return cls(kind, metric, index, effort, recalls, checkpoint)


def recall(found: Any, true: Any) -> float:
    """The share of the true neighbours (Q, k) that are among those found (Q, k)."""
    hits = sum(len(np.intersect1d(own[own >= 0], wanted)) for own, wanted in zip(found, true, strict=True))
    return hits / max(1, np.size(true))


def _others(ids: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(Q, k - 1): the ids without each query's own; without the last if its own is not among them."""
    kept = np.argsort(ids == own[:, None], axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(ids, kept, 1)


def _placed(vectors: Any, metric: str, rows: Any, operation: str = "FaissIndex.build", name: str = "vectors"
            ) -> np.ndarray:
    """The vectors of these rows in float32, of unit length for cosines."""
    chosen = vectors[rows] if isinstance(vectors, np.ndarray) else np.asarray(vectors)[rows]
    wide = check_vectors(operation, name, chosen)
    if metric == "cosine":
        zero = ~wide.any(axis=1)
        if zero.any():
            raise ValueError(f"{operation}: row {int(np.argmax(zero))} of a block of {name} is zero, which has no "
                             "direction: leave such rows out, or choose the metric l2")
        wide = unit_rows(wide)
    return np.ascontiguousarray(wide, np.float32)


def _sample(count: int, wanted: int, seed: int) -> np.ndarray:
    """Up to `wanted` of `count` rows, ascending."""
    return np.sort(np.random.default_rng(seed).choice(count, min(count, wanted), replace=False))


def _largest_divisor(width: int, limit: int) -> int:
    return next(number for number in range(limit, 0, -1) if width % number == 0)


def _made(faiss: ModuleType, kind: str, width: int, lists: int, links: int, codes: int) -> Any:
    if kind == "exact":
        return faiss.IndexFlatL2(width)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, links)
        index.hnsw.efConstruction = 200
        return index
    middle = faiss.IndexFlatL2(width)
    index = (faiss.IndexIVFFlat(middle, width, lists) if kind == "ivf" else
             faiss.IndexIVFPQ(middle, width, lists, codes, 8))
    index.own_fields = True
    middle.this.disown()
    index.cp.min_points_per_centroid = 1  # a small index is no mistake
    if kind == "ivfpq":
        index.pq.cp.min_points_per_centroid = 1
    return index


@contextmanager
def _threads(faiss: ModuleType, number: int) -> Iterator[None]:
    """A context in which faiss uses that many threads."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _notes(path: str | os.PathLike) -> Path:
    return Path(f"{os.fspath(path)}.json")


def _faiss(operation: str) -> ModuleType:
    try:
        import faiss
    except ModuleNotFoundError:
        raise RuntimeError(f"{operation}: it needs faiss, which is not installed: pip install 'sparsenet[faiss]'"
                           ) from None
    return faiss
