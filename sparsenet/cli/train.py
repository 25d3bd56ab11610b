"""Train a network from a config."""

from __future__ import annotations

from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet train quickstart                         # a shipped config, by name
  sparsenet train configs/psb.toml --set data.path=psb.h5 --set training.epochs=50
  sparsenet train modelnet40 --out runs/first --seconds 3000
  sparsenet train modelnet40 --out runs/first --resume    # the same bits as if uninterrupted
  sparsenet train --keys                             # all keys with defaults and meanings

The best epoch is selected on a held-out part of the training split (data.validation_share), or on the
data's split `val`; the test split is used once, at the end.

A run's folder holds last.h5 and best.h5 (checkpoints), metrics.csv, config.toml and, with
matplotlib, curves.png.  Ctrl-C and SIGTERM write last.h5 and exit with code 130 and 143.
"""


def main(arguments: list[str]) -> int:
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
    out = args.out or Path("runs") / find_config(args.config).stem
    train(config, out, resume=args.resume, overwrite=args.overwrite, progress=not args.quiet)
    return 0
