"""`python -m sparsenet COMMAND`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparsenet import __version__, command

EXAMPLES = """examples:
  python -m sparsenet quickstart                     # builds a dataset, trains, evaluates, searches
  python -m sparsenet quickstart --out /tmp/try --seconds 30
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sparsenet", epilog=EXAMPLES,
                                     description="Sparse 3D convolutional networks.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"sparsenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    quick = commands.add_parser("quickstart", help="the main job on built-in shapes, in about a minute")
    quick.add_argument("--out", type=Path, default=Path("runs/quickstart"), metavar="FOLDER",
                       help="where everything is written (default: runs/quickstart)")
    quick.add_argument("--seconds", type=float, metavar="N", help="train at most N seconds")
    quick.add_argument("--quiet", action="store_true", help="no progress bars")
    quick.set_defaults(run=run_quickstart)
    arguments = parser.parse_args()
    arguments.run(arguments)
    return 0


def run_quickstart(arguments: argparse.Namespace) -> None:
    from sparsenet.quickstart import quickstart

    quickstart(arguments.out, arguments.seconds, progress=not arguments.quiet)


if __name__ == "__main__":
    sys.exit(command.run(main, "sparsenet"))
