"""Build a small dataset of parametric shapes, train a network on it, evaluate it, and search with a new shape."""

from __future__ import annotations

from pathlib import Path

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet quickstart
  sparsenet quickstart --out /tmp/try --seconds 30"""


def main(arguments: list[str]) -> None:
    parser = command_parser("quickstart", __doc__, EXAMPLES)
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), metavar="FOLDER",
                        help="folder for all files (default: runs/quickstart)")
    parser.add_argument("--seconds", type=float, metavar="N", help="train at most N seconds")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    args = parser.parse_args(arguments)

    from sparsenet.quickstart import quickstart

    quickstart(args.out, args.seconds, progress=not args.quiet)
