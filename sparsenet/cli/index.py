"""Build, search and describe indices of descriptors, for millions of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.cli.parser import command_parser

if TYPE_CHECKING:
    from sparsenet.retrieval.faiss_index import FaissIndex
    from sparsenet.retrieval.index_shards import Searchable

EXAMPLES = """examples:
  sparsenet index build descriptors.h5 shapes.faiss --kind hnsw
  sparsenet index build descriptors.npy shapes.faiss --kind ivfpq --codes 48 --threads 16
  sparsenet index info shapes.faiss
  sparsenet index search queries.h5 shapes.faiss -k 5 --effort 64 --names descriptors.h5
  sparsenet index search queries.npy part1.faiss part2.faiss --output found.npz    # several as one
  sparsenet index search queries.h5 descriptors.h5                                 # exact, without faiss
  sparsenet search runs/psb/best.h5 chair.off --descriptors descriptors.h5 --index shapes.faiss

Descriptors are a file of `sparsenet embed`, or a NumPy file (N, C); they are memory-mapped.  An index is a file of
faiss (pip install "sparsenet[faiss]"), with a file INDEX.json beside it that says what it is.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    args = _parse(arguments)
    {"build": _build, "search": _search, "info": _info}[args.action](args)


def _parse(arguments: list[str]) -> argparse.Namespace:
    from sparsenet.retrieval.distances import METRICS
    from sparsenet.retrieval.faiss_index import KINDS

    parser = command_parser("index", __doc__, EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    build = actions.add_parser("build", help="write an index of descriptors",
                               description="Write an index of descriptors, and measure its recall.")
    build.add_argument("descriptors", metavar="DESCRIPTORS", help="descriptor file, or .npy")
    build.add_argument("output", metavar="OUTPUT", help="index to write")
    build.add_argument("--kind", choices=KINDS, default="ivf", help="default: ivf")
    build.add_argument("--metric", choices=METRICS, default="cosine", help="default: cosine")
    build.add_argument("--lists", type=int, metavar="N", help="clusters of ivf and ivfpq (default: about 4 sqrt(N))")
    build.add_argument("--links", type=int, default=32, metavar="N", help="links of a vector in hnsw (default: 32)")
    build.add_argument("--codes", type=int, metavar="N", help="bytes of a vector in ivfpq (default: up to C / 4)")
    build.add_argument("--effort", type=int, metavar="N", help="of searches: clusters or candidates looked at")
    build.add_argument("--queries", type=int, default=1000, metavar="N",
                       help="queries with which recall@10 is measured (default: 1000; 0: none)")
    build.add_argument("--threads", type=int, default=1, metavar="N",
                       help="threads of faiss while it builds (default: 1; with more, hnsw differs each time)")

    search = actions.add_parser("search", help="find the nearest descriptors of each query",
                                description="Find the nearest descriptors of each query.")
    search.add_argument("queries", metavar="QUERIES", help="descriptor file, or .npy, of the queries")
    search.add_argument("indices", metavar="INDEX", nargs="+",
                        help="an index, or descriptors, which are then compared one by one; several are searched as "
                             "one: the rows of each continue those of the one before")
    search.add_argument("-k", type=int, default=10, metavar="N", help="neighbours to find (default: 10)")
    search.add_argument("--effort", type=int, metavar="N",
                        help="clusters or candidates looked at (default: as the index says)")
    search.add_argument("--metric", choices=METRICS, help="of descriptors (default: cosine); an index has its own")
    search.add_argument("--names", metavar="DESCRIPTORS", nargs="+",
                        help="descriptor files of the indices, whose names are printed instead of rows")
    search.add_argument("--output", type=Path, metavar="FILE",
                        help="write the arrays `distances` and `rows` (Q, k) to this NumPy file (.npz) instead of "
                             "printing lines")

    info = actions.add_parser("info", help="what an index is: kind, size, recall",
                              description="Print what an index is: kind, size, settings, recall.")
    info.add_argument("indices", metavar="INDEX", nargs="+", help="index, or descriptors")

    args = parser.parse_args(arguments)
    if args.action == "search" and args.k < 1:
        search.error(f"argument -k: {args.k} is not a positive whole number")
    if args.action == "search" and args.output and args.output.suffix != ".npz":
        search.error(f"argument --output: {args.output} does not end in .npz")
    return args


def _build(args: argparse.Namespace) -> None:
    import time

    from sparsenet.retrieval.descriptors import open_vectors, read_checkpoint
    from sparsenet.retrieval.faiss_index import FaissIndex
    from sparsenet.training.trained import check_output

    check_output(args.output, args.descriptors)
    vectors = open_vectors(args.descriptors)
    begun = time.monotonic()
    index = FaissIndex.build(vectors, args.kind, args.metric, args.lists, args.links, args.codes, args.effort,
                             threads=args.threads)
    built = time.monotonic() - begun
    index.checkpoint = read_checkpoint(args.descriptors)
    if args.queries:
        index.measure(vectors, args.queries)
    index.save(args.output)
    print(f"{_line(args.output, index)}, built in {built:.1f} s")
    _print_recalls(index)


def _search(args: argparse.Namespace) -> None:
    import numpy as np

    from sparsenet.files import check_folder, replacing
    from sparsenet.retrieval.descriptors import Descriptors, open_vectors
    from sparsenet.retrieval.index_files import open_indices
    from sparsenet.wording import aligned

    if args.output:
        check_folder(args.output)
    index = open_indices(args.indices, args.metric, args.effort)
    queries = open_vectors(args.queries)
    distances, rows = index.search(queries, min(args.k, len(index)))
    if args.output:
        with replacing(args.output) as beside, open(beside, "wb") as file:
            np.savez(file, distances=distances, rows=rows)
        print(f"{args.output}: the {rows.shape[1]} nearest of {len(queries):,} queries")
        return
    names = [str(row) for row in range(len(queries))]
    if not args.queries.endswith(".npy"):
        names = Descriptors.load(args.queries, memory_map=True).names.tolist()
    known = [str(name) for path in args.names or () for name in Descriptors.load(path, memory_map=True).names]
    if args.names and not len(known) == len(index) > rows.max(initial=-1):
        raise ValueError(f"{' '.join(args.names)}: {len(known)} names, expected {len(index)}, one for each vector")
    found = [(names[query], str(rank), known[row] if args.names else str(row), f"{distance:.6f}")
             for query in range(len(queries))
             for rank, (row, distance) in enumerate(zip(rows[query], distances[query], strict=True), 1) if row >= 0]
    print(aligned([("query", "rank", "name" if args.names else "row", "distance"), *found], left=(0, 2), rules=()))


def _info(args: argparse.Namespace) -> None:
    from sparsenet.retrieval.faiss_index import FaissIndex
    from sparsenet.retrieval.index_files import open_index

    for path in args.indices:
        index = open_index(path)
        print(_line(path, index))
        if isinstance(index, FaissIndex):
            settings = index.settings | ({} if index.kind == "exact" else {"effort": index.effort})
            if settings:
                print(", ".join(f"{name} {value:,}" for name, value in settings.items()))
            if index.checkpoint:
                print(f"made of descriptors of the weights {index.checkpoint[:12]}")
            _print_recalls(index)


def _line(path: str, index: Searchable) -> str:
    """One line about an index."""
    from sparsenet.files import size_text
    from sparsenet.retrieval.faiss_index import FaissIndex

    kind = index.kind if isinstance(index, FaissIndex) else "compared one by one"
    return (f"{path}: {len(index):,} vectors of {index.width} numbers, {kind}, {index.metric}, "
            f"{size_text(Path(path).stat().st_size)}")


def _print_recalls(index: FaissIndex) -> None:
    for effort, share in sorted(index.recalls.items()):
        words = "" if index.kind == "exact" else f" with effort {effort}"
        print(f"recall@10{words}: {100 * share:.1f}%")
