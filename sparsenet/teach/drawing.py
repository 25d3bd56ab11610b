"""Text drawings: the cells of a grid with its sites, and a wrong number among its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Cell = tuple[int, ...]
_AROUND = 3  # entries drawn on each side of a wrong one


def drawn_grid(spatial_size: Sequence[int], labels: Mapping[Cell, object],
               marks: Mapping[Cell, str] | None = None) -> str:
    """A grid of one or two axes, or the plane of a grid of three in which the first mark lies.

    labels : what is written in a cell; others show a dot
    marks : cell -> two characters that stand around it, "[]" or "()"; cells beyond the grid are drawn too
    """
    marks = marks or {}
    plane: Cell = ()
    if len(spatial_size) == 3:
        plane = next(iter(marks), (0,))[:1]
    height, width = (1, *spatial_size)[-2:]
    rest = {cell: cell[len(plane):] for cell in (*labels, *marks) if cell[:len(plane)] == plane}
    flat = {cell: (0, *short)[-2:] for cell, short in rest.items()}
    outside = [flat[cell] for cell in marks if cell in flat]
    rows = range(min([0, *(y for y, _ in outside)]), max([height - 1, *(y for y, _ in outside)]) + 1)
    columns = range(min([0, *(x for _, x in outside)]), max([width - 1, *(x for _, x in outside)]) + 1)
    words = {flat[cell]: str(label) for cell, label in labels.items() if cell in flat}
    around = {flat[cell]: pair for cell, pair in marks.items() if cell in flat}
    size = max(2, *(len(word) for word in words.values())) if words else 2

    def drawn(y: int, x: int) -> str:
        inside = 0 <= y < height and 0 <= x < width
        pair = around.get((y, x), "  ")
        return f"{pair[0]}{words.get((y, x), '.' if inside else ' '):>{size}}{pair[1]}"

    lines = ["    " + "".join(f" {x:>{size}} " for x in columns)]
    lines += [f"{y if len(spatial_size) > 1 else '':>3} " + "".join(drawn(y, x) for x in columns) for y in rows]
    if plane:
        lines.insert(0, f"    the plane ({plane[0]}, y, x):")
    return "\n".join(line.rstrip() for line in lines)


def drawn_numbers(found: np.ndarray, expected: np.ndarray, index: tuple[int, ...]) -> str:
    """Along the last axis, the numbers around a wrong one: found and expected, the wrong one in brackets."""
    row = index[:-1]
    begin, end = max(0, index[-1] - _AROUND), min(found.shape[-1], index[-1] + _AROUND + 1)
    columns = [[str(i), shown(found[(*row, i)]), shown(expected[(*row, i)])] for i in range(begin, end)]
    columns = [[f"[{word}]" for word in column] if begin + i == index[-1] else [f" {word} " for word in column]
               for i, column in enumerate(columns)]
    names = [f"[{', '.join(map(str, row))}, :]" if row else "index", "found", "expected"]
    lines = []
    for number, name in enumerate(names):
        cells = (f"{column[number]:>{max(map(len, column))}}" for column in columns)
        lines.append(f"    {name:<9}" + " ".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def shown(value: object) -> str:
    """A number in a few characters."""
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
