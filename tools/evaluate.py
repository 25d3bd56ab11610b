#!/usr/bin/env python3
"""Judge a trained network on a dataset: accuracy of a classifier, and how well its descriptors retrieve."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/evaluate.py runs/quickstart/best.h5
  python tools/evaluate.py runs/modelnet40/best.h5 --protocol paper --poses mean --json result.json
  python tools/evaluate.py runs/psb/best.h5 --metric cosine --picture precision_recall.png

Protocol 'paper' takes the first 20 objects of each class by name.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C."""

CHOICES = {"protocol": ("none", "paper"), "metric": ("auto", "cosine", "l2"), "poses": ("first", "mean")}


def main() -> None:
    from sparsenet.files import check_folder, write_text
    from sparsenet.inspect.curves import precision_recall
    from sparsenet.inspect.figures import check_picture, save_figure
    from sparsenet.retrieval.progress import Watched
    from sparsenet.training import load_network, open_shapes, parse_config
    from sparsenet.training.build import check_field
    from sparsenet.training.judge import NO_RETRIEVAL, check_judgeable, judge_finally

    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a training")
    parser.add_argument("--dataset", metavar="FILE", help="dataset file (default: the one trained on)")
    parser.add_argument("--split", metavar="NAME", help="its part, or 'all' (default: the test split)")
    for name, choices in CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices, help=f"evaluation.{name} (default: as trained)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw precision against recall (.png, .pdf or .svg; needs matplotlib)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args()
    if arguments.picture:
        check_picture(arguments.picture)
    if arguments.json:
        check_folder(arguments.json)

    net, state = load_network(arguments.checkpoint)
    changes = [f"evaluation.{name}={getattr(arguments, name)}" for name in CHOICES if getattr(arguments, name)]
    config = parse_config(state.config, arguments.checkpoint, [*changes, f"training.device={arguments.device}"])
    with open_shapes(config, arguments.checkpoint, arguments.dataset, arguments.split) as dataset:
        shapes = dataset.only_classes(state.classes)
        check_judgeable(shapes, config)
        check_field(config, shapes, net)
        source = shapes if arguments.quiet else Watched(shapes, "evaluate")
        figures, evaluation = judge_finally(net.to(arguments.device), source, config)
    if "test_accuracy" in figures:
        print(f"accuracy {100 * figures['test_accuracy']:.2f}%, loss {figures['test_loss']:.4f}")
    print(NO_RETRIEVAL if evaluation is None else evaluation)
    if arguments.json:
        retrieval = None if evaluation is None else evaluation.figures(state.classes)
        write_text(arguments.json, json.dumps({**figures, "retrieval": retrieval, "checkpoint": state.digest},
                                              indent=2, allow_nan=False) + "\n")
        print(f"figures: {arguments.json}")
    if arguments.picture and evaluation is not None:
        save_figure(precision_recall({Path(arguments.checkpoint).parent.name or "retrieval": evaluation}),
                    arguments.picture)
        print(f"picture: {arguments.picture}")


if __name__ == "__main__":
    try:
        from sparsenet.command import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(main))
