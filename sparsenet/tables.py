"""Words in columns: the one way in which tables are printed."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (), rules: Collection[int] = (1,)) -> str:
    """Rows of words in columns, aligned to the right but for the columns whose numbers are in `left`.

    rules : a line is drawn above each of these rows; a negative number counts from the end
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) if number in left else word.rjust(width)
                       for number, (word, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    for row in sorted((row % len(lines) for row in rules), reverse=True):
        lines.insert(row, rule)
    return "\n".join(lines)
