"""Text for people: counts, lists, aligned columns and suggestions for mistyped words."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun, which is plural unless the count is 1; `plural` defaults to the noun with an s.

    >>> counted(1, "mesh", "meshes"), counted(1200, "file")
    ('1 mesh', '1,200 files')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str], limit: int) -> str:
    """The first `limit` names, separated by commas, and the number of names left out.

    >>> listed(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (), rules: Collection[int] = (1,)) -> str:
    """Rows of words as text in columns.  Columns are right-aligned, except those whose numbers are in `left`.

    rules : rows that get a horizontal rule above them; a negative number counts from the end
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) if number in left else word.rjust(width)
                       for number, (word, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    for row in sorted((row % len(lines) for row in rules), reverse=True):
        lines.insert(row, rule)
    return "\n".join(lines)


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """": did you mean PREFIX+NEAREST?", or an empty string if no known word is close.

    >>> did_you_mean("chiar", ["chair", "table"])
    ': did you mean chair?'
    """
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f": did you mean {prefix}{matches[0]}?" if matches else ""
