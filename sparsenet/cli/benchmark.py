"""Verify each pass against a reference, then time it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import sparsenet
from sparsenet.cli.parser import command_parser

ABSENT = """The benchmarks are not installed with the package: run this in a clone of the repository, where
`sparsenet benchmark --help` lists its options."""


def main(arguments: list[str]) -> int:
    root = clone()
    if root is None:
        command_parser("benchmark", __doc__, ABSENT).parse_known_args(arguments)
        raise RuntimeError(f"no folder benchmarks/ in {Path.cwd()}: run it in a clone of the repository")
    sys.path.append(str(root))
    return import_module("benchmarks.commands.benchmark").main(arguments)


def clone() -> Path | None:
    """The clone with the benchmarks: the current folder, or the one from which the package is imported."""
    for folder in (Path.cwd(), Path(sparsenet.__file__).parents[1]):
        if (folder / "benchmarks" / "commands" / "benchmark.py").is_file():
            return folder
    return None
