"""Evaluate a trained network on a dataset: accuracy of a classifier, and retrieval by descriptors."""

from __future__ import annotations

import json
from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet evaluate runs/quickstart/best.h5
  sparsenet evaluate runs/modelnet40/best.h5 --protocol paper --poses mean --json result.json
  sparsenet evaluate runs/modelnet40/best.h5 --dataset psb.h5 --split all
  sparsenet evaluate runs/psb/best.h5 --metric cosine --picture precision_recall.png

Classes are matched by name.  The accuracy is over the shapes whose class the network knows; the
retrieval is over all shapes of any class.  Shapes without a label are left out.  The numbers left out are
printed and included in the JSON.

Each shape is a query once and ranks all others.  The figures, in percent: mAP, mean average precision; AUC, area
under the precision-recall curve; NN, the nearest neighbour is of the query's class; FT and ST, first and second tier,
the recall at ranks R and 2R if R other shapes are of its class; E, E-measure at rank 32; NDCG, normalized discounted
cumulative gain.

Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""

CHOICES = {
    "protocol": (("none", "paper"), "shapes to rank: 'paper': the first 20 of each class by name; 'none': all"),
    "metric": (("auto", "cosine", "l2"), "distance for ranking; auto: l2 for a classifier, cosine for triplets"),
    "poses": (("first", "mean"), "for objects with several poses: use the first, or the mean over all"),
}


def main(arguments: list[str]) -> None:
    from sparsenet.files import write_text
    from sparsenet.inspect.curves import precision_recall
    from sparsenet.inspect.figures import check_picture, save_figure
    from sparsenet.retrieval.progress import Watched
    from sparsenet.training import load_network, open_shapes, parse_config
    from sparsenet.training.build import check_field
    from sparsenet.training.evaluation import NO_RETRIEVAL, check_evaluation, evaluate_network
    from sparsenet.training.known_classes import select_shapes
    from sparsenet.training.trained import check_output

    parser = command_parser("evaluate", __doc__, EXAMPLES)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a run")
    parser.add_argument("--dataset", metavar="FILE", help="dataset file (default: the training dataset)")
    parser.add_argument("--split", metavar="NAME", help="its split, or 'all' (default: the test split)")
    for name, (choices, meaning) in CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices, help=f"{meaning} (default: as in the run's config)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw precision against recall (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(arguments)
    if args.picture:
        check_picture(args.picture)
    if args.json:
        check_output(args.json, args.checkpoint)

    net, state = load_network(args.checkpoint)
    changes = [f"evaluation.{name}={getattr(args, name)}" for name in CHOICES if getattr(args, name)]
    config = parse_config(state.config, args.checkpoint, [*changes, f"training.device={args.device}"])
    with open_shapes(config, args.checkpoint, args.dataset, args.split) as dataset:
        if args.json:
            check_output(args.json, dataset.path)
        selection = select_shapes(dataset, state, config)
        check_evaluation(selection.shapes, config)
        check_field(config, selection.shapes, net)
        source = selection.shapes if args.quiet else Watched(selection.shapes, "evaluate")
        figures, evaluation = evaluate_network(net.to(args.device), source, config, state.classes)
    if "test_accuracy" in figures:
        print(f"accuracy {100 * figures['test_accuracy']:.2f}%, loss {figures['test_loss']:.4f}, over "
              f"{selection.known} shapes")
    for remark in selection.remarks(classifies=config.loss.kind == "softmax"):
        print(remark)
    print(NO_RETRIEVAL if evaluation is None else evaluation)
    if args.json:
        retrieval = None if evaluation is None else evaluation.figures(selection.shapes.classes)
        write_text(args.json, json.dumps({**figures, **selection.figures(), "retrieval": retrieval,
                                               "checkpoint": state.digest}, indent=2, allow_nan=False) + "\n")
        print(f"figures: {args.json}")
    if args.picture:
        if evaluation is None:
            print(f"no picture: {NO_RETRIEVAL}")
        else:
            name = Path(args.checkpoint).parent.name or "retrieval"
            save_figure(precision_recall({name: evaluation}), args.picture)
            print(f"picture: {args.picture}")
