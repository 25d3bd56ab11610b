"""A figure of a rulebook on a small 2D grid: which input site meets which weight for which output site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.inspect.style import FAINT, new_figure, plain
from sparsenet.sparse import Geometry, Rulebook, SparseTensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_CELLS, _MAX_OUTPUTS, _MAX_OFFSETS = 12, 40, 25  # limits of legibility
_ACTIVE, _OUTLINE = "#cfd8e3", "#1a1a1a"


def rulebook(x: SparseTensor, geometry: Geometry, output: int = 0) -> Figure:
    """The input sites, the filter's offsets, the output sites, and the table of neighbours.

    Sites are labelled with their row numbers.  Each offset has a colour, which marks it in the filter, in
    the output cells that it contributes to, and in its column of the table, which holds the rows of the
    input sites.  For one output row, the cells that it reads and its line of the table are outlined.

    x : a batch of one 2D grid, sides up to 12
    geometry : such as `layer.geometry`, with up to 25 offsets and 40 output sites
    output : the row to outline

    Raises
    ------
    ValueError : the grid, the filter or the output is larger; the output row does not exist.
    """
    rules = _checked(x, geometry, output)
    neighbours = to_device(rules.neighbours, "cpu")
    colours = _offset_colours(geometry.volume)
    size, out_size = x.spatial_size, rules.output_size
    height = max(3.4, 0.42 * max(size[1], out_size[1]), 0.23 * (len(neighbours) + 3))
    figure = new_figure(13.0, height + 0.8)
    figure.suptitle(f"outlined: output row {output}, the cells that it reads, its line of the table", fontsize=10)
    inputs, filters, outputs, table = figure.subplots(
        1, 4, width_ratios=(size[0] + 1, max(3, geometry.size[0] + 1), out_size[0] + 1, max(5, geometry.volume + 2)))
    cells = to_device(x.coordinates, "cpu")[:, 1:]
    _draw_grid(inputs, size, cells)
    _outline_window(inputs, rules, output, colours)
    plain(inputs, f"input {size[0]}x{size[1]}: {len(cells)} sites\nrows of the features", 9)
    _draw_filter(filters, geometry, colours)
    plain(filters, f"filter {geometry}\noffsets k", 9)
    _draw_outputs(outputs, rules, neighbours, colours, output)
    plain(outputs, f"output {out_size[0]}x{out_size[1]}: {len(neighbours)} sites\nthe offsets that feed each", 9)
    _draw_table(table, neighbours, colours, output)
    table.set_title(f"neighbours: {rules.pair_count} pairs\ninput row under offset k of output m", fontsize=9)
    return figure


def _checked(x: SparseTensor, geometry: Geometry, output: int) -> Rulebook:
    if x.dimension != 2 or x.batch_size != 1 or max(x.spatial_size) > _MAX_CELLS or geometry.volume > _MAX_OFFSETS:
        raise ValueError(f"rulebook: a batch of {x.batch_size}, grid {x.spatial_size}, {geometry.volume} offsets: "
                         f"expected a batch of 1, two sides up to {_MAX_CELLS}, up to {_MAX_OFFSETS} offsets: draw "
                         "a small example")
    rules = x.sites.rulebook(geometry)
    if max(rules.output_size) > _MAX_CELLS + 4 or not 0 < len(rules.output_sites) <= _MAX_OUTPUTS:
        raise ValueError(f"rulebook: {len(rules.output_sites)} output sites of {rules.output_size}, expected 1 to "
                         f"{_MAX_OUTPUTS} on sides up to {_MAX_CELLS + 4}: draw a smaller example")
    if not 0 <= output < len(rules.output_sites):
        raise ValueError(f"rulebook: output is {output}, expected 0 to {len(rules.output_sites) - 1}")
    return rules


def _offset_colours(count: int) -> np.ndarray:
    """(K, 3) colours, as different as possible and pale enough for black letters."""
    from matplotlib.colors import hsv_to_rgb

    hues = np.arange(count) / count
    return hsv_to_rgb(np.stack([hues, np.where(np.arange(count) % 2, 0.32, 0.55), np.full(count, 0.95)], axis=1))


def _square(axes: Axes, cell: Any, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((float(cell[0]), float(cell[1])), style.pop("width", 1), style.pop("height", 1), **style))


def _draw_grid(axes: Axes, size: tuple[int, ...], cells: np.ndarray) -> None:
    """Draw empty cells, and the sites with their rows: axis 0 to the right, axis 1 upwards."""
    for place in np.ndindex(*size):
        _square(axes, place, facecolor="white", edgecolor=FAINT, linewidth=1)
    _square(axes, (0, 0), width=size[0], height=size[1], fill=False, edgecolor="0.6", linewidth=1)
    for row, cell in enumerate(cells):
        _square(axes, cell, facecolor=_ACTIVE, edgecolor="white", linewidth=1)
        axes.text(cell[0] + 0.5, cell[1] + 0.5, str(row), ha="center", va="center", fontsize=8)
    axes.set(xlim=(-0.1, size[0] + 0.1), ylim=(-0.1, size[1] + 0.1), aspect="equal", xlabel="axis 0", ylabel="axis 1")
    axes.set_anchor("N")


def _outline_window(axes: Axes, rules: Rulebook, output: int, colours: np.ndarray) -> None:
    """Outline the cells that one output reads, one for each offset, in the offsets' colours."""
    g = rules.geometry
    place = to_device(rules.output_sites.coordinates, "cpu")[output, 1:]
    origin = place * g.stride - g.padding
    read = origin + g.kernel_offsets * g.dilation
    for cell, colour in zip(read, colours, strict=True):
        _square(axes, cell + 0.06, width=0.88, height=0.88, fill=False, edgecolor=colour * 0.85, linewidth=3)
    low, high = read.min(axis=0), read.max(axis=0) + 1
    _square(axes, low - 0.04, width=high[0] - low[0] + 0.08, height=high[1] - low[1] + 0.08, fill=False,
            edgecolor=_OUTLINE, linewidth=1.5)
    limits = np.array([axes.get_xlim(), axes.get_ylim()])
    axes.set(xlim=(min(limits[0, 0], low[0] - 0.2), max(limits[0, 1], high[0] + 0.2)),
             ylim=(min(limits[1, 0], low[1] - 0.2), max(limits[1, 1], high[1] + 0.2)))


def _draw_filter(axes: Axes, geometry: Geometry, colours: np.ndarray) -> None:
    for number, (offset, colour) in enumerate(zip(geometry.kernel_offsets, colours, strict=True)):
        _square(axes, offset, facecolor=colour, edgecolor="white", linewidth=1.5)
        axes.text(offset[0] + 0.5, offset[1] + 0.5, str(number), ha="center", va="center", fontsize=9)
    axes.set(xlim=(-0.1, geometry.size[0] + 0.1), ylim=(-0.1, geometry.size[1] + 0.1), aspect="equal", xlabel="axis 0",
             ylabel="axis 1")
    axes.set_anchor("N")


def _draw_outputs(axes: Axes, rules: Rulebook, neighbours: np.ndarray, colours: np.ndarray, output: int) -> None:
    """Draw each output site as a small copy of the filter, coloured where the offset hits a site."""
    cells = to_device(rules.output_sites.coordinates, "cpu")[:, 1:]
    _draw_grid(axes, rules.output_size, cells[:0])
    part = 1 / np.array(rules.geometry.size)
    for row, cell in enumerate(cells):
        _square(axes, cell, facecolor="#f1f3f5", edgecolor="none")
        for k, offset in enumerate(rules.geometry.kernel_offsets):
            if neighbours[row, k] >= 0:
                _square(axes, cell + offset * part, width=part[0], height=part[1], facecolor=colours[k])
        _square(axes, cell, fill=False, edgecolor="white", linewidth=1.5)
        axes.text(cell[0] + 0.5, cell[1] + 0.5, str(row), ha="center", va="center", fontsize=8)
    _square(axes, cells[output], fill=False, edgecolor=_OUTLINE, linewidth=1.8, zorder=3)


def _draw_table(axes: Axes, neighbours: np.ndarray, colours: np.ndarray, output: int) -> None:
    rows, offsets = neighbours.shape
    for row, k in np.ndindex(rows, offsets):
        known = neighbours[row, k] >= 0
        _square(axes, (k, row), facecolor=colours[k] if known else "white", edgecolor=FAINT, linewidth=0.8)
        axes.text(k + 0.5, row + 0.5, str(neighbours[row, k]) if known else "–", ha="center", va="center",
                  fontsize=7.5, color="black" if known else "0.6")
    _square(axes, (0, output), width=offsets, fill=False, edgecolor=_OUTLINE, linewidth=1.8, zorder=3)
    axes.set(xlim=(-0.1, offsets + 0.1), ylim=(rows + 0.1, -0.1), xlabel="offset k", ylabel="output row m")
    axes.set_xticks(np.arange(offsets) + 0.5, [str(k) for k in range(offsets)], fontsize=7.5)
    axes.set_yticks(np.arange(rows) + 0.5, [str(row) for row in range(rows)], fontsize=7.5)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
