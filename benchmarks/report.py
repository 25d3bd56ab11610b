"""Prints the figures as tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from benchmarks.figures import Figure, Results

_WIDEST = 118  # characters per line; wider tables are split into blocks of columns


def text(results: Results) -> str:
    """All sections as tables, then the goals, the notes and the failures."""
    machine = results.machine
    versions = (f"{name} {machine.get(name.lower(), '?')}" for name in ("Python", "NumPy", "Numba"))
    head = ", ".join([f"{results.device}: {machine.get('processor', '?')}", f"{machine.get('threads', '?')} threads",
                      *versions])
    parts = [head, *(section_table(results, section) for section in results.sections()), goals_table(results)]
    if results.notes:
        parts.append("notes\n" + "\n".join(f"  {note}" for note in results.notes))
    if results.failed:
        parts.append("FAILED\n" + "\n".join(f"  {name}: {error}" for name, error in results.failed.items()))
    return "\n\n".join(part for part in parts if part)


def section_table(results: Results, section: str) -> str:
    """One row per case and one column per name, or transposed if that is narrower; spreads above 0.2 are
    marked with ~."""
    figures = results.of(section)
    names = list(dict.fromkeys(figure.name for figure in figures))
    cases = list(dict.fromkeys(figure.case for figure in figures))
    by_key = {(figure.case, figure.name): figure for figure in figures}
    units = {name: {figure.unit for figure in figures if figure.name == name} for name in names}
    heads = {name: name + (f" [{unit}]" if len(units[name]) == 1 and (unit := min(units[name])) else "")
             for name in names}

    def columns(outer: list[str], inner: list[str], cell: Callable[[str, str], str], head: dict) -> list[list[str]]:
        return [[head.get(a, a), *(cell(a, b) for b in inner)] for a in outer]

    def cell(name: str, case: str) -> str:
        return _cell(by_key.get((case, name)), with_unit=len(units[name]) > 1)

    upright = ["", *cases], columns(names, cases, cell, heads)
    turned = (["", *heads.values()],
              columns(cases, names, lambda case, name: cell(name, case), {}))
    first, body = upright if _width(*upright) <= max(_WIDEST, _width(*turned)) else turned
    return "\n".join([section, *_blocks(first, body)])


def goals_table(results: Results) -> str:
    """The figures with a goal, and whether they meet it."""
    rows = [(f"{figure.section} | {figure.case} | {figure.name}", number(figure.value) + _unit(figure),
             f"{'>=' if figure.better == 'higher' else '<='} {number(figure.goal)}", "yes" if figure.met else "NO")
            for figure in results.goals()]
    if not rows:
        return ""
    columns = [list(column) for column in zip(("", "now", "goal", "met"), *rows, strict=True)]
    return "\n".join(["goals", *_blocks(columns[0], columns[1:])])


def number(value: float) -> str:
    """A number with three digits, integers with separators."""
    if value == int(value) and abs(value) >= 100 or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _cell(figure: Figure | None, with_unit: bool) -> str:
    if figure is None:
        return ""
    mark = "~" if figure.spread > 0.2 else ""
    return mark + number(figure.value) + (_unit(figure) if with_unit else "")


def _unit(figure: Figure) -> str:
    return f" {figure.unit}" if figure.unit else ""


def _width(first: list[str], columns: list[list[str]]) -> int:
    return sum(_wide(column) + 2 for column in [first, *columns])


def _wide(column: list[str]) -> int:
    """Width in characters; headings are broken after commas."""
    return max(max(map(len, column[0].split(", "))) + 1, *(len(cell) for cell in column[1:]), 0)


def _blocks(first: list[str], columns: list[list[str]]) -> list[str]:
    """Lines of a table, with its columns in several blocks if it is too wide."""
    head = max(map(len, first))
    blocks: list[list[list[str]]] = [[]]
    for column in columns:
        if blocks[-1] and _width(first, [*blocks[-1], column]) > _WIDEST:
            blocks.append([])
        blocks[-1].append(column)
    lines: list[str] = []
    for block in blocks:
        sizes = [_wide(column) for column in block]
        broken = [re.sub(", ", ",\n", column[0]).split("\n") for column in block]
        for level in range(deepest := max(map(len, broken))):
            words = (words[at] if (at := level - deepest + len(words)) >= 0 else "" for words in broken)
            lines.append(_line(first[0] if level == deepest - 1 else "", head, words, sizes))
        for row in range(1, len(first)):
            cells = [column[row] for column in block]
            if any(cells):
                lines.append(_line(first[row], head, cells, sizes))
        lines.append("")
    return lines[:-1]


def _line(name: str, head: int, cells: Iterable[str], sizes: list[int]) -> str:
    rest = (cell.rjust(size) for cell, size in zip(cells, sizes, strict=True))
    return "  " + "  ".join([name.ljust(head), *rest]).rstrip()
