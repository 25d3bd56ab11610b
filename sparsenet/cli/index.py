"""Build an index of descriptors for fast search among millions, by faiss."""

from __future__ import annotations

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet index build descriptors.h5 shapes.faiss --kind hnsw
  sparsenet index build descriptors.npy shapes.faiss --kind ivfpq --codes 48 --threads 16

DESCRIPTORS is a file of `sparsenet embed`, or a NumPy file (N, C), which is read in blocks.  OUTPUT is a file of faiss;
OUTPUT.json beside it says what it is.  Search it with sparsenet.retrieval.faiss_index.FaissIndex.load(OUTPUT).
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    import time
    from pathlib import Path
    from typing import Any

    import numpy as np

    from sparsenet.files import size_text
    from sparsenet.retrieval import Descriptors
    from sparsenet.retrieval.distances import METRICS
    from sparsenet.retrieval.faiss_index import KINDS, FaissIndex
    from sparsenet.training.trained import check_output

    parser = command_parser("index", __doc__, EXAMPLES)
    parser.add_argument("action", choices=("build",), help="build: write an index")
    parser.add_argument("descriptors", metavar="DESCRIPTORS", help="descriptor file, or .npy")
    parser.add_argument("output", metavar="OUTPUT", help="index to write")
    parser.add_argument("--kind", choices=KINDS, default="ivf", help="default: ivf")
    parser.add_argument("--metric", choices=METRICS, default="cosine", help="default: cosine")
    parser.add_argument("--lists", type=int, metavar="N", help="clusters of ivf and ivfpq (default: about 4 sqrt(N))")
    parser.add_argument("--links", type=int, default=32, metavar="N", help="links of a vector in hnsw (default: 32)")
    parser.add_argument("--codes", type=int, metavar="N", help="bytes of a vector in ivfpq (default: up to C / 4)")
    parser.add_argument("--effort", type=int, metavar="N", help="of searches: clusters or candidates looked at")
    parser.add_argument("--queries", type=int, default=1000, metavar="N",
                        help="queries with which recall@10 is measured (default: 1000; 0: none)")
    parser.add_argument("--threads", type=int, default=1, metavar="N",
                        help="threads of faiss while it builds (default: 1; with more, hnsw differs each time)")
    args = parser.parse_args(arguments)
    check_output(args.output, args.descriptors)
    vectors: Any = (np.load(args.descriptors, mmap_mode="r", allow_pickle=False)
                    if args.descriptors.endswith(".npy") else Descriptors.load(args.descriptors).vectors)
    begun = time.monotonic()
    index = FaissIndex.build(vectors, args.kind, args.metric, args.lists, args.links, args.codes, args.effort,
                             threads=args.threads)
    built = time.monotonic() - begun
    if args.queries:
        index.measure(vectors, args.queries)
    index.save(args.output)
    print(f"{args.output}: {len(index):,} vectors, {args.kind}, {args.metric}, "
          f"{size_text(Path(args.output).stat().st_size)}, built in {built:.1f} s")
    for effort, share in sorted(index.recalls.items()):
        words = "" if args.kind == "exact" else f" with effort {effort}"
        print(f"recall@10{words}: {100 * share:.1f}%")
