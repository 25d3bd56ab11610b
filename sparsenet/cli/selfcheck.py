"""Check on each device that results are exact: PASS or FAIL."""

from __future__ import annotations

from sparsenet.cli.parser import command_parser

EXAMPLES = """examples:
  sparsenet selfcheck

Exit code: 0, or 1 if a check failed."""


def main(arguments: list[str]) -> int:
    command_parser("selfcheck", __doc__, EXAMPLES).parse_args(arguments)

    from sparsenet.selfcheck import selfcheck

    return 0 if selfcheck() else 1
