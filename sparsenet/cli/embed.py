#!/usr/bin/env python3
"""Write the descriptors of a dataset's shapes to a file."""

from __future__ import annotations

import argparse
import sys

EXAMPLES = """examples:
  python tools/embed.py runs/quickstart/best.h5 descriptors.h5
  python tools/embed.py runs/psb/best.h5 everything.h5 --dataset psb.h5 --split all
  python tools/embed.py runs/modelnet40/best.h5 mean.h5 --poses mean --layer 17

OUTPUT is never half a file: it is written under another name and renamed at the end.  tools/retrieve.py
searches in it.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main() -> None:
    from sparsenet.training import embed_shapes, load_network, open_shapes, parse_config
    from sparsenet.training.trained import check_output

    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a training")
    parser.add_argument("output", metavar="OUTPUT", help="file of descriptors to write (HDF5)")
    parser.add_argument("--dataset", metavar="FILE", help="dataset file (default: the one trained on)")
    parser.add_argument("--split", metavar="NAME", help="its split, or 'all' (default: the test split)")
    parser.add_argument("--layer", type=int, metavar="N",
                        help="layer whose output is the descriptor, counted from 1: 17 in S3DCNN (default: the last "
                             "before the classifier)")
    parser.add_argument("--poses", choices=("first", "mean"), default="first",
                        help="of an object with several poses: the first alone, or the mean over all (default: first)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args()
    check_output(arguments.output, arguments.checkpoint)

    net, state = load_network(arguments.checkpoint)
    config = parse_config(state.config, arguments.checkpoint, [f"training.device={arguments.device}"])
    with open_shapes(config, arguments.checkpoint, arguments.dataset, arguments.split) as shapes:
        check_output(arguments.output, shapes.path)
        descriptors = embed_shapes(net.to(arguments.device), state, config, shapes, arguments.layer, arguments.poses,
                                   progress=not arguments.quiet)
    descriptors.save(arguments.output)
    known = descriptors.labels[descriptors.labels >= 0]
    unlabelled = f" and {len(descriptors) - len(known)} without a label" if len(known) < len(descriptors) else ""
    print(f"{arguments.output}: {len(known)} shapes of {len(set(known.tolist()))} classes{unlabelled}, "
          f"{descriptors.vectors.shape[1]} numbers each, from layer {descriptors.layer}")


if __name__ == "__main__":
    try:
        from sparsenet.cli.exit_code import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(main))
