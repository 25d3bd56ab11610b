"""The argument parser of a command, with examples after its options."""

from __future__ import annotations

import argparse


def command_parser(name: str, description: str | None, examples: str) -> argparse.ArgumentParser:
    """The parser of `sparsenet NAME`; its help ends with the examples, unwrapped."""
    return argparse.ArgumentParser(prog=f"sparsenet {name}", description=description, epilog=examples,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
