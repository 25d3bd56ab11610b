"""HTML that notebooks show for an object: self-contained, escaped, in the notebook's own colours, light or dark."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from math import ceil
from typing import Any

import numpy as np

MAX_ROWS = 200  # of a table
MAX_SIDE = 64  # squares along a picture's side
LEVELS = 4  # shades of a picture
_PIXELS = 160  # of a picture's longer side, about
_STYLE = (
    ".sparsenet{font-size:13px;line-height:1.4;color:inherit}"
    ".sparsenet .parts{display:flex;flex-wrap:wrap;align-items:flex-start;gap:0 1.5em}"
    ".sparsenet .wide{overflow-x:auto;max-width:100%}"
    ".sparsenet table{border-collapse:collapse;margin:.3em 0;font-size:inherit;color:inherit}"
    ".sparsenet tr,.sparsenet th,.sparsenet td{background:none;border:0;color:inherit}"
    ".sparsenet th,.sparsenet td{padding:1px 8px;text-align:right;vertical-align:top;white-space:pre}"
    ".sparsenet .left{text-align:left}"
    ".sparsenet thead th,.sparsenet .facts th{font-weight:normal;opacity:.65}"
    ".sparsenet thead tr{border-bottom:1px solid}"
    ".sparsenet .rule{border-top:1px solid}"
    ".sparsenet .facts td{text-align:left;white-space:normal}"
    ".sparsenet figure{margin:.3em 0}"
    ".sparsenet svg{display:block;fill:currentColor;outline:1px solid;outline-color:rgb(128 128 128/.5)}"
    ".sparsenet figcaption{opacity:.65;font-size:smaller;margin-top:.2em}"
)


def card(title: str, facts: Mapping[str, str], *parts: str) -> str:
    """HTML of an object: its title, a list of facts (name -> text), and more HTML, such as tables and pictures."""
    rows = "".join(f'<tr><th class="left">{escape(name)}</th><td>{escape(text)}</td></tr>'
                   for name, text in facts.items())
    known = f'<table class="facts"><tbody>{rows}</tbody></table>' if rows else ""
    return (f'<div class="sparsenet"><style>{_STYLE}</style><strong>{escape(title)}</strong>'
            f'<div class="parts">{known}{"".join(parts)}</div></div>')


def table(rows: Sequence[Sequence[str]], left: Collection[int] = (), rules: Collection[int] = ()) -> str:
    """HTML of a table; the first row is its heading.  Of more than MAX_ROWS rows the rest is counted.

    left : columns that are left-aligned, the others are right-aligned
    rules : rows that get a line above them; a negative number counts from the end
    """
    head, *body = rows
    lines = {number % len(rows) for number in rules}
    shown = [_row("td", row, left, number in lines) for number, row in enumerate(body[:MAX_ROWS], start=1)]
    if len(body) > MAX_ROWS:
        shown.append(f'<tr><td class="left" colspan="{len(head)}">and {len(body) - MAX_ROWS:,} more</td></tr>')
    return (f'<div class="wide"><table><thead>{_row("th", head, left, False)}</thead><tbody>{"".join(shown)}</tbody>'
            "</table></div>")


def _row(tag: str, row: Sequence[str], left: Collection[int], rule: bool) -> str:
    cells = "".join(f'<{tag}{_class("left" if number in left else "")}>{escape(word)}</{tag}>'
                    for number, word in enumerate(row))
    return f'<tr{_class("rule" if rule else "")}>{cells}</tr>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def picture(rows: np.ndarray, columns: np.ndarray, sides: tuple[int, int], caption: str) -> str:
    """HTML of cells as squares, the darker the more cells fall on one.  Grids with sides above MAX_SIDE are drawn in
    blocks of cells.

    rows, columns : (N,) integers below `sides`;  sides : of the grid, downwards and to the right
    """
    block = max(1, ceil(max(sides) / MAX_SIDE))
    height, width = (ceil(side / block) for side in sides)
    counts = np.bincount((rows // block) * width + columns // block, minlength=height * width).reshape(height, width)
    levels = -(-LEVELS * counts // max(counts.max(), 1))
    paths = "".join(f'<path opacity="{level / LEVELS:g}" d="{_runs(levels == level)}"/>'
                    for level in range(1, LEVELS + 1) if (levels == level).any())
    scale = max(1, _PIXELS // max(height, width))
    return _figure(width, height, scale, scale, paths, caption)


def _runs(mask: np.ndarray) -> str:
    """An SVG path of the true squares, in runs along each row."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1).tolist(), np.argwhere(edges == -1).tolist()
    return "".join(f"M{x} {y}h{end - x}v1H{x}z" for (y, x), (_, end) in zip(starts, ends, strict=True))


def bars(values: Iterable[float], caption: str) -> str:
    """HTML of numbers, at least 0, as bars side by side."""
    heights = np.asarray(list(values), np.float64)
    heights = np.rint(100 * heights / max(heights.max(initial=0), 1e-300)).astype(int)
    path = "".join(f"M{place} 100v-{height}h.8v{height}z" for place, height in enumerate(heights.tolist()) if height)
    across = max(1, min(16, 320 // max(len(heights), 1)))  # pixels for each
    return _figure(len(heights), 100, across, 0.48, f'<path d="{path}"/>', caption)


def _figure(width: int, height: int, across: float, down: float, content: str, caption: str) -> str:
    return (f'<figure><svg width="{width * across:g}" height="{height * down:g}" viewBox="0 0 {width} {height}" '
            f'preserveAspectRatio="none" role="img" aria-label="{escape(caption)}">{content}</svg>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def times(sizes: Iterable[int]) -> str:
    """Sides as text: 61 × 61 × 61."""
    return " × ".join(f"{size:,}" for size in sizes)


def numbers(values: Any, limit: int = 4) -> str:
    """The first numbers of a vector as text, and how many are left out.

    >>> numbers([0.5, 1/3, 2, 7, 8])
    '0.5, 0.3333, 2, 7 and 1 more'
    """
    values = np.asarray(values).reshape(-1)
    more = f" and {len(values) - limit:,} more" if len(values) > limit else ""
    return f"{', '.join(f'{value:.4g}' for value in values[:limit].tolist())}{more}"
