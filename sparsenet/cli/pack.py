"""Write a trained network to a small file: weights in halves, without the state of its training."""

from __future__ import annotations

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet pack runs/psb/best.h5 psb_model.h5
  sparsenet pack runs/modelnet40/last.h5 modelnet40.h5 --turns 12

The file is a checkpoint of a sixth of the size that every command takes as one, but a training cannot be resumed from
it.  The network computes in float32 with the rounded weights.
Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: list[str]) -> None:
    from pathlib import Path

    from sparsenet.files import size_text
    from sparsenet.models.packing import pack_model
    from sparsenet.training.trained import check_output

    parser = command_parser("pack", __doc__, EXAMPLES)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="best.h5 or last.h5 of a run")
    parser.add_argument("output", metavar="OUTPUT", help="file to write (HDF5)")
    parser.add_argument("--turns", type=int, default=1, metavar="N",
                        help="poses about the vertical over which `classify` averages, for a network that was trained "
                             "on such poses (default: 1)")
    args = parser.parse_args(arguments)
    if args.turns < 1:
        parser.error(f"argument --turns: {args.turns} is not a positive whole number")
    check_output(args.output, args.checkpoint)
    digest = pack_model(args.checkpoint, args.output, args.turns)
    print(f"{args.output}: {size_text(Path(args.output).stat().st_size)}, weights {digest}")
