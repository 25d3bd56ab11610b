"""Print versions, devices, thread counts, cache folders and missing packages."""

from __future__ import annotations

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet info"""


def main(arguments: list[str]) -> None:
    command_parser("info", __doc__, EXAMPLES).parse_args(arguments)

    from sparsenet.info import info

    print(info())
