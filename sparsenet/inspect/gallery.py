"""One picture of a query and the shapes that a search found for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparsenet.inspect.voxels import draw_voxels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUERY, RIGHT, WRONG, UNKNOWN = "#5b7fa6", "#4f9d69", "#c4594f", "#8a8a8a"
_COLUMNS = 5  # results per row
_SIDE, _GAP, _CAPTION = 2.05, 0.2, 0.42  # inches: side of a shape, gap beside the query, caption below a shape
_HEIGHT = _CAPTION + _SIDE + 0.28  # including the heading


@dataclass(frozen=True)
class Picture:
    """One shape of the gallery.

    coordinates : (n, 3) int, its voxels
    name : any text
    label : its class, "" if unknown
    distance : distance to the query
    """

    coordinates: Any
    name: str
    label: str = ""
    distance: float | None = None


def gallery(query: Picture, results: Sequence[Picture]) -> Figure:
    """A figure (matplotlib) with the query's voxels on the left and those of the results, nearest first, beside it.

    If the label of the query is known, results of its class are green with a tick, others red with a
    cross; otherwise all are grey.

    Raises
    ------
    ValueError : results is empty.
    """
    from matplotlib.figure import Figure

    if not results:
        raise ValueError("gallery: results is empty, expected at least one shape")
    columns = min(_COLUMNS, len(results))
    rows = -(-len(results) // columns)
    size = (_SIDE * (columns + 1) + _GAP, rows * _HEIGHT)
    figure = Figure(figsize=size, facecolor="white")
    heading = f"query: {query.label}" if query.label else "query"
    _show(figure, 0.0, (size[1] - _HEIGHT) / 2, query, QUERY, heading)
    for number, result in enumerate(results):
        colour, sign = UNKNOWN, ""
        if query.label and result.label:
            colour, sign = (RIGHT, "\N{CHECK MARK}") if result.label == query.label else (WRONG, "\N{BALLOT X}")
        heading = " ".join(filter(None, (f"{number + 1}.", _shortened(result.label, 18), sign)))
        left = _SIDE + _GAP + number % columns * _SIDE
        _show(figure, left, size[1] - (number // columns + 1) * _HEIGHT, result, colour, heading)
    return figure


def _show(figure: Figure, left: float, bottom: float, shape: Picture, colour: str, heading: str) -> None:
    """Draw one shape in the box at (left, bottom) inches: its voxels between a heading and a caption."""
    width, height = figure.get_size_inches()
    place = (left / width, (bottom + _CAPTION) / height, _SIDE / width, _SIDE / height)
    draw_voxels(figure.add_axes(place, projection="3d"), shape.coordinates, colour)
    middle = (left + _SIDE / 2) / width
    figure.text(middle, (bottom + _CAPTION + _SIDE + 0.04) / height, heading, ha="center", va="bottom", fontsize=10,
                fontweight="bold", color=colour)
    caption = _shortened(shape.name, 26)
    if shape.distance is not None:
        caption += f"\ndistance {shape.distance:.4g}"
    figure.text(middle, (bottom + _CAPTION - 0.02) / height, caption, ha="center", va="top", fontsize=8, color="0.25")


def _shortened(text: str, letters: int) -> str:
    """The text, with its middle left out if it is longer than this many letters."""
    if len(text) <= letters:
        return text
    return f"{text[: letters // 2 - 1]}…{text[len(text) - letters + letters // 2 :]}"
