"""`python -m sparsenet COMMAND`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparsenet import __version__
from sparsenet.cli.exit_code import run

EXAMPLES = """examples:
  python -m sparsenet quickstart                     # builds a dataset, trains, evaluates, searches
  python -m sparsenet quickstart --out /tmp/try --seconds 30
  python -m sparsenet info                           # versions, devices, threads, caches
  python -m sparsenet selfcheck                      # are results exact on this machine? PASS or FAIL
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sparsenet", epilog=EXAMPLES,
                                     description="Sparse 3D convolutional networks.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"sparsenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    quick = commands.add_parser("quickstart", help="build a small dataset, train, evaluate, search: about a minute")
    quick.add_argument("--out", type=Path, default=Path("runs/quickstart"), metavar="FOLDER",
                       help="where everything is written (default: runs/quickstart)")
    quick.add_argument("--seconds", type=float, metavar="N", help="train at most N seconds")
    quick.add_argument("--quiet", action="store_true", help="no progress bars")
    quick.set_defaults(run=run_quickstart)
    told = commands.add_parser("info", help="versions, devices, thread counts, cache folders, and what is missing")
    told.set_defaults(run=run_info)
    checked = commands.add_parser("selfcheck", help="check on each device that results are exact: PASS or FAIL")
    checked.set_defaults(run=run_selfcheck)
    arguments = parser.parse_args()
    return arguments.run(arguments) or 0


def run_quickstart(arguments: argparse.Namespace) -> None:
    from sparsenet.quickstart import quickstart

    quickstart(arguments.out, arguments.seconds, progress=not arguments.quiet)


def run_info(arguments: argparse.Namespace) -> None:
    from sparsenet.info import info

    print(info())


def run_selfcheck(arguments: argparse.Namespace) -> int:
    from sparsenet.selfcheck import selfcheck

    return 0 if selfcheck() else 1


if __name__ == "__main__":
    sys.exit(run(main, "sparsenet"))
