"""Write the descriptors of a dataset's shapes to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.cli.parser import command_parser
from sparsenet.cli.part import add_part
from sparsenet.cli.poses import add_poses

if TYPE_CHECKING:
    from sparsenet.retrieval import Descriptors
    from sparsenet.training.mpi import World

EXAMPLES = """examples:
  sparsenet embed runs/quickstart/best.h5 descriptors.h5
  sparsenet embed runs/psb/best.h5 everything.h5 --dataset psb.h5 --split all
  sparsenet embed runs/modelnet40/best.h5 mean.h5 --poses mean --layer 17
  sparsenet embed runs/modelnet40/best.h5 posterior.h5 --descriptor probabilities --poses 0,4,8
  sparsenet embed runs/psb/best.h5 d.h5 --part 3/8    # one job of eight; then: sparsenet join d.h5

OUTPUT is written under a temporary name and renamed once complete.  A part that is there already, made of the same
weights, settings and shapes, is kept.  `sparsenet search` and `sparsenet index` search descriptors.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    from sparsenet.training.mpi import world

    with world() as processes:
        run(arguments, processes)


def run(arguments: list[str], processes: World) -> None:
    """The command, as one of the processes that mpirun started."""
    from sparsenet.data import Part
    from sparsenet.models import model_path
    from sparsenet.training.trained import check_output

    parser = command_parser("embed", __doc__, EXAMPLES)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a run, or a model's name")
    parser.add_argument("output", metavar="OUTPUT", help="descriptor file to write (HDF5)")
    parser.add_argument("--dataset", metavar="FILE", help="dataset file (default: the training dataset)")
    parser.add_argument("--split", metavar="NAME", help="its split, or 'all' (default: the test split)")
    parser.add_argument("--layer", type=int, metavar="N",
                        help="layer whose output is the descriptor, counted from 1: 17 in S3DCNN (default: the last "
                             "before the classifier)")
    parser.add_argument("--descriptor", choices=("layer", "probabilities"),
                        help="embed to a layer's output, or to a classifier's class probabilities (default: as in the "
                             "run's config)")
    add_poses(parser, "first", "first")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add_part(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(arguments)
    if processes.size > 1:
        if args.part is not None:
            parser.error("argument --part: under mpirun each process has its own part: leave it out")
        args.part = Part(processes.rank + 1, processes.size)
        args.quiet |= processes.rank > 0
    if args.layer is not None and args.descriptor == "probabilities":
        parser.error("argument --layer: not allowed with --descriptor probabilities")
    args.checkpoint = model_path(args.checkpoint)
    check_output(args.output, args.checkpoint)
    with processes.watched_parts("embed", args.output):
        path, descriptors, kept = _made(args)
        if processes.size > 1:
            path, descriptors, kept = Path(args.output), _joined(args.output, processes), False
    if processes.rank == 0:
        print(f"{path}: {_contents(descriptors)}{'; it was there already, and is kept' if kept else ''}")


def _made(args: argparse.Namespace) -> tuple[Path, Descriptors, bool]:
    """The file of the descriptors, of a part or of all; they themselves; and whether the file was there already."""
    from sparsenet.data.several_files import dataset_paths
    from sparsenet.retrieval import Descriptors
    from sparsenet.training import embed_shapes, load_network, open_shapes, parse_config, part_settings
    from sparsenet.training.trained import check_output

    net, state = load_network(args.checkpoint)
    config = parse_config(state.config, args.checkpoint, [f"training.device={args.device}"])
    path, settings = Path(args.output), ""
    with open_shapes(config, args.checkpoint, args.dataset, args.split) as shapes:
        check_output(args.output, *dataset_paths(shapes.path))
        if args.part is not None:
            path = args.part.path(args.output)
            settings = part_settings(state, config, shapes, args.layer, args.poses, args.descriptor, args.part)
            kept = Descriptors.part_of(path, args.part, settings)
            if kept is not None:
                return path, kept, True
        made = embed_shapes(net.to(args.device), state, config, shapes, args.layer, args.poses, not args.quiet,
                            args.descriptor, args.part)
    made.save(path, args.part, settings)
    return path, made, False


def _contents(descriptors: Descriptors) -> str:
    """How many shapes there are, of which layer."""
    from sparsenet.wording import counted

    known = descriptors.labels[descriptors.labels >= 0]
    classes = counted(len(set(known.tolist())), "class", "classes")
    groups = [f"{counted(len(known), 'shape')} of {classes}"] if len(known) or not len(descriptors) else []
    if len(known) < len(descriptors):
        groups.append(f"{counted(len(descriptors) - len(known), 'shape')} without a label")
    source = f"from layer {descriptors.layer}" if descriptors.output == "descriptor" else "the class probabilities"
    return f"{' and '.join(groups)}, {descriptors.vectors.shape[1]} numbers each, {source}"


def _joined(output: str, processes: World) -> Descriptors:
    """The descriptors of all processes, which the first joins to the file `output`."""
    from sparsenet.data import Part
    from sparsenet.retrieval import Descriptors

    paths: list[str | Path] = [Part(number, processes.size).path(output) for number in range(1, processes.size + 1)]
    processes.wait()
    descriptors = Descriptors.joined(paths)
    processes.wait()
    if processes.rank == 0:
        descriptors.save(output)
        for path in paths:
            Path(path).unlink()
    return descriptors
