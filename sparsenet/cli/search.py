"""Find the shapes most similar to a mesh, in a folder of meshes or in a dataset."""

from __future__ import annotations

from pathlib import Path

from sparsenet.cli.parser import command_parser
from sparsenet.cli.poses import add_poses

EXAMPLES = """examples:
  sparsenet search meshes/ chair.stl                   # any folder, searched by a model of the package
  sparsenet search meshes/ chair.stl --model runs/psb/best.h5 --picture found.png
  sparsenet search runs/quickstart/best.h5 chair.off
  sparsenet search runs/psb/best.h5 query.stl --dataset psb.h5 --split all -k 20
  sparsenet search runs/psb/best.h5 query.obj --descriptors everything.h5 --picture found.png
  sparsenet search runs/psb/best.h5 query.obj --descriptors everything.h5 --index everything.faiss

In a folder, and the folders within it, each mesh is embedded once; its descriptor is kept in the user's cache folder
(SPARSENET_CACHE names another) until the file or the model changes.

The query is voxelized like the shapes.  With --descriptors (a file written by `sparsenet embed`) only the query
is embedded, which is faster when searching repeatedly; with --index (a file of `sparsenet index build`) not every
descriptor is compared, which is faster among millions.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    if _names_a_folder(arguments):
        _search_folder(arguments)
        return
    from sparsenet.data.importers import axis_of
    from sparsenet.inspect.figures import check_picture, save_figure
    from sparsenet.models import model_names, model_path
    from sparsenet.retrieval import Descriptors, find_similar
    from sparsenet.retrieval.index_files import checkpoints_of, open_indices
    from sparsenet.shapes import read_mesh
    from sparsenet.training import embed_shapes, load_network, open_shapes, parse_config
    from sparsenet.training.evaluation import ranking_metric

    parser = command_parser("search", __doc__, EXAMPLES)
    parser.add_argument("checkpoint", metavar="FOLDER|CHECKPOINT",
                        help="a folder of meshes (its options: sparsenet search FOLDER --help); or best.h5 or last.h5 "
                             "of a run, or a model's name, to search a dataset")
    parser.add_argument("query", metavar="MESH", help="mesh file: OFF, OBJ, PLY, STL or GLB")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of shapes to find (default: 10)")
    parser.add_argument("--descriptors", metavar="FILE", help="search this file, written by `sparsenet embed`")
    parser.add_argument("--index", metavar="FILE", nargs="+",
                        help="with --descriptors: search this index of them, or several as one, by its own metric")
    parser.add_argument("--effort", type=int, metavar="N",
                        help="with --index: clusters or candidates looked at (default: as the index says)")
    parser.add_argument("--dataset", metavar="FILE",
                        help="search this dataset file (default: the training dataset); with --descriptors, the file "
                             "from which --picture draws the shapes (default: the embedded one)")
    parser.add_argument("--split", metavar="NAME", help="the dataset's split, or 'all' (default: the test split)")
    parser.add_argument("--descriptor", choices=("layer", "probabilities"),
                        help="compare a layer's output, or a classifier's class probabilities (default: as in the "
                             "run's config)")
    add_poses(parser, None, "first")
    parser.add_argument("--metric", choices=("cosine", "l2"),
                        help="distance for ranking (default: as in the run's config, where 'auto' is l2 for a "
                             "classifier's layer, cosine for triplets and for class probabilities)")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw the query and the results (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--label", default="", metavar="CLASS",
                        help="the query's class, if known: --picture marks the results of this class")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(arguments)
    if args.k < 1:
        parser.error(f"argument -k: {args.k} is not a positive whole number")
    if args.descriptors and args.split:
        parser.error("argument --split: not allowed with --descriptors, which already belong to one split")
    for name in ("descriptor", "poses"):
        if args.descriptors and getattr(args, name) is not None:
            parser.error(f"argument --{name}: not allowed with --descriptors, which are of one kind already")
    if args.index and not args.descriptors:
        parser.error("argument --index: needs --descriptors, which have the names of its vectors")
    if args.effort is not None and not args.index:
        parser.error("argument --effort: needs --index")
    if args.label and not args.picture:
        parser.error("argument --label: needs --picture, which marks the shapes of that class")
    if args.picture:
        check_picture(args.picture)

    source = Path(args.checkpoint)
    if not source.exists() and not source.suffix and args.checkpoint not in model_names():
        raise FileNotFoundError(f"{source} does not exist: expected a folder of meshes, a checkpoint, or the name of a "
                                f"model: {', '.join(model_names())}")
    if Path(args.query).is_dir():
        parser.error(f"argument MESH: {args.query} is a folder: the folder to search comes first, then the mesh")
    args.checkpoint = model_path(args.checkpoint)
    query = read_mesh(args.query)
    net, state = load_network(args.checkpoint)
    config = parse_config(state.config, args.checkpoint, [f"training.device={args.device}"])
    net = net.to(args.device)
    index = None
    if args.descriptors:
        descriptors = Descriptors.load(args.descriptors, memory_map=True)
        if descriptors.checkpoint != state.digest:
            raise ValueError(f"{args.descriptors} was not made with the weights of {args.checkpoint}: "
                             "make it again with `sparsenet embed`")
        if args.index:
            index = open_indices(args.index, args.metric, args.effort)
            if checkpoints_of(index) - {state.digest}:
                raise ValueError(f"{' '.join(args.index)}: made of descriptors of other weights than those of "
                                 f"{args.checkpoint}: build it again with `sparsenet index build`")
    else:
        with open_shapes(config, args.checkpoint, args.dataset, args.split) as shapes:
            descriptors = embed_shapes(net, state, config, shapes, poses=args.poses or "first",
                                       progress=not args.quiet, descriptor=args.descriptor)
    query = query.upright(axis_of(args.query, descriptors.up_axis))
    if args.label:
        descriptors.check_class(args.label)
    found = find_similar(net, query, descriptors, min(args.k, len(descriptors)),
                         args.metric or ranking_metric(config, descriptors.output), Path(args.query).name, index)
    print(found)
    if args.picture:
        save_figure(found.picture(args.dataset, args.label), args.picture)
        print(f"picture: {args.picture}")


def _names_a_folder(arguments: list[str]) -> bool:
    """Whether the first word that is neither an option nor the value of one is a folder."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        if not word.startswith("-") and not _takes_a_value(before):
            return Path(word).is_dir()
    return False


def _takes_a_value(word: str) -> bool:
    """Whether the word is an option whose value is the next word: not --quiet, --help, --model=NAME or -k5."""
    if not word.startswith("--"):
        return word.startswith("-") and len(word) == 2 and word != "-h"
    return "=" not in word and not any(flag.startswith(word) for flag in ("--quiet", "--help"))


def _search_folder(arguments: list[str]) -> None:
    import sys

    from sparsenet.inspect.figures import check_picture, save_figure
    from sparsenet.models import classify, embed_folder, load_pretrained, search_folder
    from sparsenet.models.classification import classifies
    from sparsenet.wording import counted

    parser = command_parser("search", __doc__, EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", help="folder of meshes, with the folders within it")
    parser.add_argument("query", metavar="MESH", help="mesh file: OFF, OBJ, PLY, STL, GLB or glTF")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of files to find (default: 10)")
    parser.add_argument("--model", default="modelnet40", metavar="MODEL",
                        help="a model of the package, or best.h5 or last.h5 of a run (default: modelnet40)")
    parser.add_argument("--up-axis", choices=("auto", "y", "z"),
                        help="the axis along which the meshes and the query stand; auto: by a file's format, y for OBJ "
                             "and glTF, z for the others (default: as the model's own meshes)")
    parser.add_argument("--turns", type=int, metavar="N",
                        help="poses about the vertical whose descriptors are averaged (default: 3, or 1 if the model "
                             "was trained without)")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw the query and the results (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(arguments)
    for name in ("k", "turns"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            option = "-k" if name == "k" else "--turns"
            parser.error(f"argument {option}: {getattr(args, name)} is not a positive whole number")
    if args.picture:
        check_picture(args.picture)
    net = load_pretrained(args.model)
    query = net.voxelization.read(args.query, args.up_axis) if net.voxelization else args.query
    known = embed_folder(net, args.folder, args.up_axis, args.turns, not args.quiet,
                         lambda line: print(f"sparsenet search: {line}", file=sys.stderr))
    for name, reason in known.unreadable.items():
        print(f"sparsenet search: {name}: {reason}", file=sys.stderr)
    if not len(known):
        raise ValueError(f"{args.folder}: none of {counted(len(known.unreadable), 'file')} can be read")
    found = search_folder(net, known, query, min(args.k, len(known)), turns=args.turns)
    print(f"{counted(len(known), 'mesh', 'meshes')} in {args.folder}, {known.computed} embedded now")
    if classifies(net):
        best = classify(net, query, "z")
        print(f"{args.query}: {best.label} ({best.probability:.0%})")
    print(found)
    if args.picture:
        save_figure(found.picture(net, query, Path(args.query).name, args.up_axis), args.picture)
        print(f"picture: {args.picture}")
