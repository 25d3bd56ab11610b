"""Find the shapes most similar to a mesh."""

from __future__ import annotations

from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet search runs/quickstart/best.h5 chair.off
  sparsenet search runs/psb/best.h5 query.stl --dataset psb.h5 --split all -k 20
  sparsenet search runs/psb/best.h5 query.obj --descriptors everything.h5 --picture found.png

The query is voxelized like the shapes.  With --descriptors (a file written by `sparsenet embed`) only the query
is embedded, which is faster when searching repeatedly.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    from sparsenet.data.importers import axis_of
    from sparsenet.inspect.figures import check_picture, save_figure
    from sparsenet.retrieval import Descriptors, find_similar
    from sparsenet.shapes import read_mesh
    from sparsenet.training import embed_shapes, load_network, open_shapes, parse_config
    from sparsenet.training.evaluation import ranking_metric

    parser = command_parser("search", __doc__, EXAMPLES)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a run")
    parser.add_argument("query", metavar="MESH", help="mesh file: OFF, OBJ, PLY, STL or GLB")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of shapes to find (default: 10)")
    parser.add_argument("--descriptors", metavar="FILE", help="search this file, written by `sparsenet embed`")
    parser.add_argument("--dataset", metavar="FILE",
                        help="search this dataset file (default: the training dataset); with --descriptors, the file "
                             "from which --picture draws the shapes (default: the embedded one)")
    parser.add_argument("--split", metavar="NAME", help="the dataset's split, or 'all' (default: the test split)")
    parser.add_argument("--metric", choices=("cosine", "l2"),
                        help="distance for ranking (default: as in the run's config, where 'auto' is l2 for a "
                             "classifier and cosine for triplets)")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw the query and the results (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--label", default="", metavar="CLASS",
                        help="the query's class, if known: --picture marks the results of this class")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args(arguments)
    if given.k < 1:
        parser.error(f"argument -k: {given.k} is not a positive whole number")
    if given.descriptors and given.split:
        parser.error("argument --split: not allowed with --descriptors, which already belong to one split")
    if given.label and not given.picture:
        parser.error("argument --label: needs --picture, which marks the shapes of that class")
    if given.picture:
        check_picture(given.picture)

    query = read_mesh(given.query)
    net, state = load_network(given.checkpoint)
    config = parse_config(state.config, given.checkpoint, [f"training.device={given.device}"])
    net = net.to(given.device)
    if given.descriptors:
        descriptors = Descriptors.load(given.descriptors)
        if descriptors.checkpoint != state.digest:
            raise ValueError(f"{given.descriptors} was not made with the weights of {given.checkpoint}: "
                             "make it again with `sparsenet embed`")
    else:
        with open_shapes(config, given.checkpoint, given.dataset, given.split) as shapes:
            descriptors = embed_shapes(net, state, config, shapes, progress=not given.quiet)
    query = query.upright(axis_of(given.query, descriptors.up_axis))
    if given.label:
        descriptors.check_class(given.label)
    found = find_similar(net, query, descriptors, min(given.k, len(descriptors)),
                         given.metric or ranking_metric(config), Path(given.query).name)
    print(found)
    if given.picture:
        save_figure(found.picture(given.dataset, given.label), given.picture)
        print(f"picture: {given.picture}")
