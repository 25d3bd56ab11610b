"""Train a network from a config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.cli.parser import command_parser

if TYPE_CHECKING:
    from sparsenet.training import Config
    from sparsenet.training.mpi import World

EXAMPLES = """examples:
  sparsenet train quickstart                         # a shipped config, by name
  sparsenet train configs/psb.toml --set data.path=psb.h5 --set training.epochs=50
  sparsenet train modelnet40 --out runs/first --seconds 3000
  sparsenet train modelnet40 --out runs/first --resume    # the same bits as if uninterrupted
  sparsenet train modelnet40 --find-lr               # which learning rate to try first
  mpirun -n 4 sparsenet train modelnet40 --set training.shards=8    # four processes, the bits of one
  sparsenet train --keys                             # all keys with defaults and meanings

The best epoch is selected on a held-out part of the training split (data.validation_share), or on the
data's split `val`; the test split is used once, at the end.

A run's folder holds last.h5 and best.h5 (checkpoints), metrics.csv, config.toml and, with
matplotlib, curves.png.  Ctrl-C and SIGTERM write last.h5 and exit with code 130 and 143.
"""


def main(arguments: list[str]) -> int:
    from sparsenet.training.mpi import world

    with world() as processes:
        return run(arguments, processes)


def run(arguments: list[str], processes: World) -> int:
    """The command, as one of the processes that mpirun started."""
    from sparsenet.training import describe_keys, find_config, load_config, train

    parser = command_parser("train", __doc__, EXAMPLES)
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="TOML file, or the name of a shipped config")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
                        help="override a key of the config with a TOML value; may be repeated")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the run (default: runs/NAME of CONFIG)")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="continue from FOLDER/last.h5")
    earlier.add_argument("--overwrite", action="store_true",
                         help="start from scratch if FOLDER contains a run, whose files are removed")
    parser.add_argument("--seconds", type=float, metavar="N",
                        help="stop resumably after N seconds and evaluate (training.max_seconds)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar (shown only on a terminal)")
    parser.add_argument("--find-lr", action="store_true",
                        help="instead of training, let the learning rate rise step by step, and print the losses and a "
                             "suggestion; nothing is kept")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="with --find-lr: draw the losses into FILE")
    parser.add_argument("--keys", action="store_true", help="print all keys with their defaults and meanings")
    args = parser.parse_args(arguments)
    if args.keys:
        print(describe_keys(), end="")
        return 0
    if args.config is None:
        parser.error("CONFIG is missing: name a TOML file or a shipped config")
    overrides = list(args.overrides)
    if args.seconds is not None:
        overrides.append(f"training.max_seconds={args.seconds}")
    config = load_config(args.config, overrides)
    if args.find_lr:
        if args.out or args.resume or args.overwrite or args.seconds is not None:
            parser.error("--find-lr makes no run: leave out --out, --resume, --overwrite and --seconds")
        if processes.size > 1:
            parser.error("--find-lr runs in one process: start it without mpirun")
        return _find_learning_rate(config, args.picture, not args.quiet)
    if args.picture:
        parser.error("--picture draws what --find-lr finds: give both, or neither")
    out = args.out or Path("runs") / find_config(args.config).stem
    ranks = processes.ranks(config)
    with processes.watched(out):
        train(config, out, resume=args.resume, overwrite=args.overwrite, progress=not args.quiet, ranks=ranks)
    return 0


def _find_learning_rate(config: Config, picture: Path | None, progress: bool) -> int:
    """Print what `find_learning_rate` finds, and draw it if a file is named."""
    from sparsenet.training import find_learning_rate

    if picture is not None:
        from sparsenet.inspect.figures import check_picture

        check_picture(picture)
    found = find_learning_rate(config, progress=progress)
    print(found.table())
    if picture is not None:
        from sparsenet.inspect.curves import rate_curve
        from sparsenet.inspect.figures import save_figure

        save_figure(rate_curve(found.rates, found.losses, found.smoothed, found.suggestion), picture)
    return 0
