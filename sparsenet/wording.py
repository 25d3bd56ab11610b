"""Counts and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun, in the plural unless it is 1; the plural ends in s if it is not given.

    >>> counted(1, "mesh", "meshes"), counted(1200, "file")
    ('1 mesh', '1,200 files')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str], most: int) -> str:
    """Names with commas; how many more there are stands for those beyond `most`.

    >>> listed(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
