"""The commands of `sparsenet`, and the function that runs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from sparsenet.cli.exit_code import run

# Command -> its line in `sparsenet --help`.  Its module has the same name, with underscores.
COMMANDS = {
    "quickstart": "build a small dataset, train, evaluate, search: about a minute",
    "make-dataset": "convert meshes, point clouds or voxels to one dataset file",
    "train": "train a network from a config",
    "evaluate": "accuracy and retrieval of a trained network on a dataset",
    "classify": "tell the classes of meshes",
    "embed": "write the descriptors of a dataset's shapes to a file",
    "index": "build an index for fast search among millions of descriptors",
    "join": "join the parts of a dataset or of descriptors that several jobs made",
    "search": "find the shapes most similar to a mesh, in a folder or a dataset",
    "serve": "search a folder of meshes, or descriptors, on a page in the browser",
    "pack": "write a trained network to a small file, weights in halves",
    "export": "write a trained network as an ONNX file: the dense network that it equals",
    "reproduce": "measure the paper's tables and figures anew",
    "inspect": "write an HTML page that shows a network and its activations for a mesh",
    "puzzle": "puzzles to learn by: rulebooks in NumPy, CUDA kernels without a GPU",
    "benchmark": "verify each pass against a reference, then time it (in a clone of the repository)",
    "info": "versions, devices, thread counts, cache folders and missing packages",
    "selfcheck": "check on each device that results are exact: PASS or FAIL",
}
EXAMPLES = """examples:
  sparsenet quickstart                     # builds a dataset, trains, evaluates, searches
  sparsenet quickstart --out /tmp/try --seconds 30
  sparsenet train --help                   # every command has its own help
  sparsenet info
  sparsenet selfcheck

Exit code: 0, or 1 after an error, 2 after a wrong command line, 130 after Ctrl-C, 143 after SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, as defined by `sparsenet.cli.exit_code.run`.

    arguments : the command and its arguments; default: those of the process

    Raises SystemExit for `--help`, `--version` (code 0) and a wrong command line (code 2), as argparse does.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in COMMANDS:
        return run(lambda: _parse(words), "sparsenet")
    command, *rest = words
    return run(lambda: import_module(f"sparsenet.cli.{command.replace('-', '_')}").main(rest), f"sparsenet {command}")


def _parse(words: list[str]) -> None:
    """Print the help, the version or an error.  Always raises SystemExit."""
    from sparsenet import __version__

    parser = argparse.ArgumentParser(prog="sparsenet", description="Sparse 3D convolutional networks.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"sparsenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    parser.parse_args(words)
