"""What the scripts of this folder call: each starts one command, with the package of this clone."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 130  # sparsenet.cli.exit_code says so too, once it is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def start(command: str) -> NoReturn:
    """Run `sparsenet COMMAND` with the arguments of this process, and exit as it does."""
    try:
        from sparsenet.cli import main
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(main([command, *sys.argv[1:]]))


def start_benchmarks(command: str) -> NoReturn:
    """Run benchmarks/commands/COMMAND.py likewise."""
    try:
        from sparsenet.cli.exit_code import run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(run(lambda: import_module(f"benchmarks.commands.{command}").main(sys.argv[1:]), command))
