"""The option --poses, which several commands share."""

from __future__ import annotations

import argparse

WORDS = ("first", "mean", "max")


def add_poses(parser: argparse.ArgumentParser, default: str | None, default_words: str) -> None:
    """Add --poses to a command."""
    parser.add_argument("--poses", type=parse_poses, default=default, metavar="POSES",
                        help="for objects with several poses: 'first', their 'mean', a list such as 0,4,8 (the mean "
                             f"over these poses), or 'max', the greatest of each number (default: {default_words})")


def parse_poses(text: str) -> str | tuple[int, ...]:
    """One of WORDS, or pose numbers separated by commas."""
    if text in WORDS:
        return text
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(WORDS)}, nor distinct pose numbers such as "
                                         "0,4,8")
    return numbers
