"""The option --part, which several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparsenet.data import Part


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add --part to a command whose argument OUTPUT is a file."""
    parser.add_argument("--part", type=_part, metavar="I/N",
                        help="do part I of N alone, into a file beside OUTPUT, such as out.3-of-8.h5 for 3/8; "
                             "`sparsenet join OUTPUT` joins all N to the same file, bit for bit, as without parts")


def _part(text: str) -> Part:
    from sparsenet.data import Part

    try:
        return Part.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
