"""Helpers of the scripts in this folder: each runs one command with the package of this clone."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 130  # as in sparsenet.cli.exit_code, which is not imported yet
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def start(command: str) -> NoReturn:
    """Run `sparsenet COMMAND` with the arguments of this process, and exit with its code."""
    try:
        from sparsenet.cli import main
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(main([command, *sys.argv[1:]]))


def start_benchmarks(command: str) -> NoReturn:
    """Run benchmarks/commands/COMMAND.py in the same way."""
    try:
        from sparsenet.cli.exit_code import run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(run(lambda: import_module(f"benchmarks.commands.{command}").main(sys.argv[1:]), command))
