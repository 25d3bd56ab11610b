"""The command line: `sparsenet COMMAND`, which `python -m sparsenet COMMAND` is, too."""

from sparsenet.cli.commands import main

__all__ = ["main"]
