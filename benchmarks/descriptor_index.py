"""Indices of faiss over millions of descriptors: seconds to build, bytes, milliseconds a query, recall@10.

    python -m benchmarks.descriptor_index --count 10000000 --folder /scratch --kinds exact ivf hnsw ivfpq --threads 2
    python -m benchmarks.descriptor_index --count 1000000 --descriptors modelnet40.h5      # real ones, with small noise

The descriptors are real ones of a file, each repeated with small noise, or else a mixture of Gaussians; float32, in a
file that is memory-mapped.  The queries are 1,000 more of the same kind, which are not in the index; the truth is found
in float64.  One line of JSON for each kind and effort.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.retrieval import Descriptors
from sparsenet.retrieval.faiss_index import EFFORTS, KINDS, FaissIndex, exact_neighbours, recall
from sparsenet.training.record import peak_megabytes

WIDTH, CENTRES, QUERIES, K = 192, 4000, 1000, 10
NOISE = 0.1  # of the spread of the descriptors
_BLOCK = 1 << 16


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--folder", type=Path, default=Path("."), help="for the vectors and indices, which stay")
    parser.add_argument("--descriptors", type=Path, help="file of `sparsenet embed`")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--metric", choices=("cosine", "l2"), default="cosine")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    real = None if args.descriptors is None else Descriptors.load(args.descriptors).vectors
    path = args.folder / f"vectors-{args.count}.npy"
    if not path.exists():
        write_vectors(path, args.count, real)
    vectors = np.load(path, mmap_mode="r")
    queries = drawn(np.random.default_rng(1), args.queries, real)
    begun = time.perf_counter()
    _, truth = exact_neighbours(vectors, queries, K, args.metric)
    print(f"exact neighbours of {args.queries} queries in float64: {time.perf_counter() - begun:.1f} s", flush=True)
    rows = []
    for kind in args.kinds:
        for row in measured(vectors, queries, truth, kind, args.metric, args.threads, args.folder):
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def measured(vectors: Any, queries: np.ndarray, truth: np.ndarray, kind: str, metric: str, threads: int, folder: Path
             ) -> list[dict[str, Any]]:
    """A row for each effort worth measuring."""
    begun = time.perf_counter()
    index = FaissIndex.build(vectors, kind, metric, threads=threads)
    built = time.perf_counter() - begun
    path = folder / f"{kind}-{len(vectors)}.faiss"
    index.save(path)
    del index
    mapped = FaissIndex.load(path, memory_map=True)
    rows = []
    for effort in EFFORTS[kind]:
        mapped.effort = effort
        mapped.search(queries[:10], K)  # the pages that every search reads
        begun = time.perf_counter()
        _, found = mapped.search(queries, K)
        seconds = time.perf_counter() - begun
        rows.append({"kind": kind, "vectors": len(vectors), "threads": threads, "effort": effort,
                     "build_s": round(built, 2), "bytes": path.stat().st_size,
                     "ms_a_query": round(1000 * seconds / len(queries), 4), "recall_at_10": recall(found, truth),
                     "peak_MB": round(peak_megabytes())})
    return rows


def write_vectors(path: Path, count: int, real: np.ndarray | None) -> None:
    """Write (count, C) float32 descriptors to a NumPy file, in blocks."""
    width = WIDTH if real is None else real.shape[1]
    beside = path.with_suffix(".part")
    out = np.lib.format.open_memmap(beside, "w+", np.float32, (count, width))
    rng = np.random.default_rng(0)
    for start in range(0, count, _BLOCK):
        out[start:start + _BLOCK] = drawn(rng, min(_BLOCK, count - start), real)
    out.flush()
    beside.replace(path)


def drawn(rng: np.random.Generator, count: int, real: np.ndarray | None) -> np.ndarray:
    """(count, C) float32: rows around real descriptors, or around the centres of a mixture."""
    centres = np.random.default_rng(7).standard_normal((CENTRES, WIDTH)).astype(np.float32) if real is None else real
    spread = centres.std(axis=0) * (NOISE if real is not None else 0.5)
    chosen = centres[rng.integers(len(centres), size=count)]
    return chosen + rng.standard_normal(chosen.shape, np.float32) * spread.astype(np.float32)


if __name__ == "__main__":
    main()
