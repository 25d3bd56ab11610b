"""The command line: `sparsenet COMMAND`, or `python -m sparsenet COMMAND`."""

from sparsenet.cli.commands import main

__all__ = ["main"]
