#!/usr/bin/env python3
"""Find the shapes most similar to a mesh."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/retrieve.py runs/quickstart/best.h5 chair.off
  python tools/retrieve.py runs/psb/best.h5 query.stl --dataset psb.h5 --split all -k 20
  python tools/retrieve.py runs/psb/best.h5 query.obj --descriptors everything.h5 --picture found.png

The query is voxelized as the shapes were.  With --descriptors (a file that tools/embed.py wrote) only the query
has to be embedded: use it to search more than once.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main() -> None:
    from sparsenet.data.importers import axis_of
    from sparsenet.inspect.figures import check_picture, save_figure
    from sparsenet.retrieval import Descriptors, find_similar
    from sparsenet.shapes import read_mesh
    from sparsenet.training import embed_shapes, load_network, open_shapes, parse_config
    from sparsenet.training.judge import ranking_metric

    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a training")
    parser.add_argument("query", metavar="MESH", help="mesh file: OFF, OBJ, PLY, STL or GLB")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of shapes to find (default: 10)")
    parser.add_argument("--descriptors", metavar="FILE", help="search in this file, which tools/embed.py wrote")
    parser.add_argument("--dataset", metavar="FILE",
                        help="search in this dataset file (default: the one trained on); with --descriptors, the file "
                             "that --picture draws the shapes from (default: the one embedded)")
    parser.add_argument("--split", metavar="NAME", help="the dataset's split, or 'all' (default: the test split)")
    parser.add_argument("--metric", choices=("cosine", "l2"),
                        help="distance to rank by (default: as in the training's config, where 'auto' is l2 for a "
                             "classifier and cosine for triplets)")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw the query and what was found (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--label", default="", metavar="CLASS",
                        help="the query's class, if known: --picture marks which shapes found are of it")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args()
    if arguments.k < 1:
        parser.error(f"argument -k: {arguments.k} is not a positive whole number")
    if arguments.descriptors and arguments.split:
        parser.error("argument --split: not allowed with --descriptors, which are of one split already")
    if arguments.label and not arguments.picture:
        parser.error("argument --label: needs --picture, which marks the shapes of that class")
    if arguments.picture:
        check_picture(arguments.picture)

    query = read_mesh(arguments.query)
    net, state = load_network(arguments.checkpoint)
    config = parse_config(state.config, arguments.checkpoint, [f"training.device={arguments.device}"])
    net = net.to(arguments.device)
    if arguments.descriptors:
        descriptors = Descriptors.load(arguments.descriptors)
        if descriptors.checkpoint != state.digest:
            raise ValueError(f"{arguments.descriptors} was made with other weights than {arguments.checkpoint} has: "
                             "make it again with tools/embed.py")
    else:
        with open_shapes(config, arguments.checkpoint, arguments.dataset, arguments.split) as shapes:
            descriptors = embed_shapes(net, state, config, shapes, progress=not arguments.quiet)
    query = query.upright(axis_of(arguments.query, descriptors.up_axis))
    if arguments.label:
        descriptors.check_class(arguments.label)
    found = find_similar(net, query, descriptors, min(arguments.k, len(descriptors)),
                         arguments.metric or ranking_metric(config), Path(arguments.query).name)
    print(found)
    if arguments.picture:
        save_figure(found.picture(arguments.dataset, arguments.label), arguments.picture)
        print(f"picture: {arguments.picture}")


if __name__ == "__main__":
    try:
        from sparsenet.cli.exit_code import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(main))
