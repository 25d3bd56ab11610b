"""Indices over millions of descriptors: seconds to build, bytes, milliseconds a query, recall@10, memory.

    sparsenet make-dataset modelnet40-voxels modelnet40_voxels30/ modelnet40.h5 --poses 1
    sparsenet embed modelnet40 real.h5 --dataset modelnet40.h5 --split all
    python -m benchmarks.descriptor_index --descriptors real.h5 --count 10000000 --folder /scratch --threads 2

The descriptors are real ones, each repeated with small noise, in as many of their principal components as --width says;
without --descriptors they are a mixture of Gaussians, which is easier to search.  They are float32, in a file that is
memory-mapped.  The queries are 1,000 more of the same kind, which are not in the index.  `Index` finds the truth among
all vectors, in float64, and is timed with it.

Each kind of index is built and searched in a process of its own.  Of more than a million vectors, the first million
is measured before; a build that would take longer than --hours by that is left out, and its time extrapolated: the
line says so.  One line of JSON for each kind and effort, also in results.jsonl in the folder: what is there is not
measured again, so that a run which was stopped goes on.  An index is removed once it has been searched, unless --keep
is given.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.kernels import set_num_threads
from sparsenet.retrieval import Index
from sparsenet.retrieval.descriptors import open_vectors
from sparsenet.retrieval.faiss_index import EFFORTS, KINDS, FaissIndex, recall

WIDTH, CENTRES, QUERIES, K = 192, 4000, 1000, 10
NOISE = 0.1  # of the spread of the descriptors
MEASURED = 1_000_000  # vectors from which longer builds are extrapolated
_BLOCK = 1 << 16


def _clusters(count: int) -> float:
    """Distances that ivf computes: ten rounds over 64 samples for each of 4 sqrt(N) clusters, then each vector to each
    cluster."""
    lists = 4 * math.sqrt(count)
    return 10 * 64 * lists * lists + count * lists


# How the time of a build grows with the number of vectors.
GROWTH: dict[str, Callable[[int], float]] = {
    "exact": lambda count: count, "ivf": _clusters, "ivfpq": _clusters, "hnsw": lambda count: count * math.log(count)}


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=MEASURED)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--folder", type=Path, default=Path("."), help="for vectors, truth, indices and results")
    parser.add_argument("--descriptors", type=Path, help="file of `sparsenet embed`")
    parser.add_argument("--width", type=int, default=WIDTH, help="numbers of a descriptor, at most (default: 192)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--metric", choices=("cosine", "l2"), default="cosine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hours", type=float, default=2.0, help="longest build that is measured (default: 2)")
    parser.add_argument("--first", type=int, default=MEASURED, help="vectors that are measured before (default: 1e6)")
    parser.add_argument("--keep", action="store_true", help="keep the indices")
    args = parser.parse_args(arguments)
    real = None if args.descriptors is None else narrowed(open_vectors(args.descriptors), args.width)
    width = args.width if real is None else real.shape[1]
    path = args.folder / f"{'mixture' if real is None else 'real'}-{args.count}-{width}.npy"
    if not path.exists():
        _say(f"writing {args.count:,} vectors")
        write_vectors(path, args.count, width, real)
    np.save(args.folder / "queries.npy", drawn(np.random.default_rng(1), args.queries, width, real))
    results = Results(args.folder / "results.jsonl", {"threads": args.threads, "metric": args.metric,
                                                      "queries": args.queries, "width": width,
                                                      "real": real is not None})
    counts = sorted({min(args.first, args.count), args.count})
    for count in counts:
        results.measured(f"the truth among {count:,} vectors", {"kind": "Index", "vectors": count},
                         exact_search, args.folder, path, count, args.metric, args.threads,
                         made=_truth(args.folder, count))
        for kind in args.kinds:
            key = {"kind": kind, "vectors": count}
            seconds = results.extrapolated(kind, count, counts[0])
            if seconds > 3600 * args.hours and not results.known(key):
                results.add([key | {"build_s": round(seconds), "extrapolated_from": counts[0]}], key)
                continue
            results.measured(f"{kind} of {count:,} vectors", key, built_and_searched, args.folder, path, count, kind,
                             args.metric, args.threads, args.keep)
    return results.rows


class Results:
    """Rows of figures in a file, which outlive a run that is stopped.

    same : settings that all rows of a run share
    rows : those of this run, old ones included
    """

    def __init__(self, path: Path, same: dict[str, Any]):
        self.path, self.same = path, same
        self.rows: list[dict[str, Any]] = []
        self.earlier = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def measured(self, doing: str, key: dict[str, Any], function: Callable[..., list[dict[str, Any]]],
                 *arguments: Any, made: Path | None = None) -> None:
        """Add the rows that a function returns in a process of its own, unless there are rows with this key, and the
        file that it makes besides."""
        there = self.known(key)
        if there and (made is None or made.exists()):
            self.rows += there
            return
        _say(doing)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            self.add(process.submit(function, *arguments).result(), key)

    def known(self, key: dict[str, Any]) -> list[dict[str, Any]]:
        """The measured rows of earlier runs with this key."""
        return [row for row in self.earlier if row.items() >= (key | self.same).items()
                and "extrapolated_from" not in row]

    def add(self, rows: list[dict[str, Any]], key: dict[str, Any]) -> None:
        """Add rows of this key."""
        for row in rows:
            whole = key | self.same | row
            self.rows.append(whole)
            print(json.dumps(whole), flush=True)
            with open(self.path, "a") as file:
                file.write(json.dumps(whole) + "\n")

    def extrapolated(self, kind: str, count: int, first: int) -> float:
        """Seconds that a build would take by that of the first vectors; 0 if there is none to go by."""
        for row in self.rows:
            if (row["kind"], row["vectors"]) == (kind, first) and first < count:
                return row["build_s"] * GROWTH[kind](count) / GROWTH[kind](first)
        return 0.0


def exact_search(folder: Path, path: Path, count: int, metric: str, threads: int) -> list[dict[str, Any]]:
    """Find the true neighbours by `Index`, of all queries and then of single ones; write their rows."""
    set_num_threads(threads)
    queries = np.load(folder / "queries.npy")
    with Memory() as memory:
        begun = time.perf_counter()
        index = Index(metric)
        index.add(open_vectors(path)[:count])
        index.search(queries[:1], K)
        opened = time.perf_counter() - begun
        begun = time.perf_counter()
        _, truth = index.search(queries, K)
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        for query in queries[:3]:
            index.search(query[None], K)
        alone = (time.perf_counter() - begun) / min(3, len(queries))
    np.save(_truth(folder, count), truth)
    return [{"build_s": round(opened, 2), "bytes": index.vectors.nbytes, "recall_at_10": 1.0,
             "ms_a_query": round(1000 * seconds / len(queries), 4), "ms_a_single_query": round(1000 * alone, 2),
             "memory_MB": memory.peak}]


def built_and_searched(folder: Path, path: Path, count: int, kind: str, metric: str, threads: int, keep: bool
                       ) -> list[dict[str, Any]]:
    """A row for each effort worth measuring."""
    import faiss

    vectors, queries = open_vectors(path)[:count], np.load(folder / "queries.npy")
    truth = np.load(_truth(folder, count))
    with Memory() as memory:
        begun = time.perf_counter()
        index = FaissIndex.build(vectors, kind, metric, threads=threads)
        seconds = time.perf_counter() - begun
    built = {"build_s": round(seconds, 2), **index.settings, "memory_MB": memory.peak}
    file = folder / f"{kind}-{count}.faiss"
    index.save(file)
    del index
    mapped = FaissIndex.load(file, memory_map=True)
    faiss.omp_set_num_threads(threads)
    rows = []
    for effort in EFFORTS[kind]:
        mapped.effort = effort
        mapped.search(queries[:10], K)  # the pages that every search reads
        begun = time.perf_counter()
        _, found = mapped.search(queries, K)
        seconds = time.perf_counter() - begun
        rows.append({"effort": effort, **built, "bytes": file.stat().st_size, "recall_at_10": recall(found, truth),
                     "ms_a_query": round(1000 * seconds / len(queries), 4)})
    if not keep:
        for made in (file, Path(f"{file}.json")):
            made.unlink()
    return rows


def narrowed(vectors: np.ndarray, width: int) -> np.ndarray:
    """(N, C) float32 in memory; of more than `width` numbers, the first principal components about the origin, which
    keep most of every length and angle."""
    wide = np.asarray(vectors, np.float64)
    if wide.shape[1] <= width:
        return wide.astype(np.float32)
    _, axes = np.linalg.eigh(wide.T @ wide)
    return (wide @ axes[:, ::-1][:, :width]).astype(np.float32)


def write_vectors(path: Path, count: int, width: int, real: np.ndarray | None) -> None:
    """Write (count, width) float32 descriptors to a NumPy file, in blocks."""
    beside = path.with_suffix(".part")
    out = np.lib.format.open_memmap(beside, "w+", np.float32, (count, width))
    rng = np.random.default_rng(0)
    for start in range(0, count, _BLOCK):
        out[start:start + _BLOCK] = drawn(rng, min(_BLOCK, count - start), width, real)
    out.flush()
    beside.replace(path)


def drawn(rng: np.random.Generator, count: int, width: int, real: np.ndarray | None) -> np.ndarray:
    """(count, width) float32: rows around real descriptors, or around the centres of a mixture."""
    centres = np.random.default_rng(7).standard_normal((CENTRES, width)).astype(np.float32) if real is None else real
    spread = centres.std(axis=0) * (NOISE if real is not None else 0.5)
    chosen = centres[rng.integers(len(centres), size=count)]
    return chosen + rng.standard_normal(chosen.shape, np.float32) * spread.astype(np.float32)


def _truth(folder: Path, count: int) -> Path:
    return folder / f"truth-{count}.npy"


class Memory:
    """A context that notes the most memory that this process holds and no file backs, in MB, ten times a second; 0 if
    Linux does not tell.  Pages of memory-mapped files do not count: the system takes them back when it needs them."""

    def __enter__(self) -> Memory:
        self.peak, self._done = 0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.is_set():
            self._note()
            self._done.wait(0.1)

    def _note(self) -> None:
        status = Path("/proc/self/status")
        lines = status.read_text().splitlines() if status.exists() else []
        self.peak = max([self.peak, *(int(line.split()[1]) // 1000 for line in lines if line.startswith("RssAnon"))])

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watcher.join()
        self._note()


def _say(doing: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {doing}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
