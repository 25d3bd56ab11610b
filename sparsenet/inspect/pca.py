"""PCA of descriptors: a map of the first two principal components, with thumbnails of some shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.inspect.style import COLOURS, MARKERS, new_figure
from sparsenet.inspect.voxels import draw_voxels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _LEGEND = 8.0, 6.2, 1.9  # inches: the map, and a column of the legend
_LINES = 28  # lines in a column of the legend


def principal_components(vectors: Any, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """PCA: coordinates (S, count) float64, and the share of the variance of each component (count,).

    The largest entry of each component's direction is positive, so that the sign is determined.

    Raises
    ------
    ValueError : vectors is not (S, C) with at least two rows and `count` columns.
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < count:
        raise ValueError(f"principal_components: vectors have shape {x.shape}, expected (S, C) with S at least 2 and C "
                         f"at least {count}")
    centred = x - x.mean(axis=0)
    left, singular, directions = np.linalg.svd(centred, full_matrices=False)
    directions, power = directions[:count], singular**2
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    places = np.zeros((len(x), count))
    places[:, :len(directions)] = centred @ (directions * signs[:, None]).T
    shares = np.zeros(count)
    shares[:len(directions)] = power[:count] / power.sum() if power.sum() else 0
    return places, shares


def descriptor_map(vectors: Any, labels: Any, classes: Sequence[str], cells: Sequence[Any] | None = None,
                   thumbnails: int = 24) -> Figure:
    """One point for each shape, coloured by class, and thumbnails of some well-separated shapes.

    vectors : (S, C) descriptors;  labels : (S,) int, an index into classes, -1 if unknown
    classes : names
    cells : S arrays (n, 3) int, the shapes' voxels; None: points only
    thumbnails : maximum number of thumbnails, which never overlap

    Raises
    ------
    ValueError : lengths differ, or see `principal_components`.
    """
    places, shares = principal_components(vectors)
    labels = np.asarray(labels)
    if len(labels) != len(places) or (cells is not None and len(cells) != len(places)):
        raise ValueError(f"descriptor_map: {len(places)} vectors, {len(labels)} labels, "
                         f"{'no' if cells is None else len(cells)} cells: expected one of each for every shape")
    present = [label for label in range(-1, len(classes)) if (labels == label).any()]
    columns = -(-len(present) // _LINES)
    figure = new_figure(_WIDTH + columns * _LEGEND, _HEIGHT)
    axes = figure.subplots()
    for label in present:
        colour, marker = _look(label)
        own = labels == label
        axes.scatter(*places[own].T, s=22, color=colour, marker=marker, linewidths=0, alpha=0.85,
                     label=classes[label] if label >= 0 else "not known")
    axes.set_xlabel(f"component 1: {100 * shares[0]:.0f}% of the variance", fontsize=9)
    axes.set_ylabel(f"component 2: {100 * shares[1]:.0f}% of the variance", fontsize=9)
    axes.set_title(f"{len(places):,} descriptors of {np.shape(vectors)[1]} numbers", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.margins(0.13)  # room for a thumbnail at the outermost point
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), ncols=columns)
    if cells is not None:
        figure.draw_without_rendering()  # the layout determines the positions of the points
        figure.set_layout_engine("none")
        for row in _standing_apart(axes, places, thumbnails):
            _thumbnail(axes, places[row], cells[row], _look(labels[row])[0])
    return figure


def _look(label: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    if label < 0:
        return "#b0b0b0", "."
    return COLOURS[label % len(COLOURS)], MARKERS[label // len(COLOURS) % len(MARKERS)]


_SIDE = 0.11  # side of a thumbnail, relative to the axes' width


def _standing_apart(axes: Axes, places: np.ndarray, count: int) -> list[int]:
    """Rows of points far enough apart that their thumbnails do not touch, farthest first."""
    inside = axes.transAxes.inverted().transform(axes.transData.transform(places))
    inside[:, 1] *= _HEIGHT / _WIDTH  # approximately in widths of the axes
    chosen: list[int] = []
    nearest = np.full(len(places), np.inf)
    row = int(((inside - inside.mean(axis=0)) ** 2).sum(axis=1).argmax())
    while len(chosen) < count and nearest[row] > 1.05 * _SIDE:
        chosen.append(row)
        nearest = np.minimum(nearest, np.abs(inside - inside[row]).max(axis=1))
        row = int(nearest.argmax())
    return chosen


def _thumbnail(axes: Axes, place: np.ndarray, cells: Any, colour: str) -> None:
    """Draw voxels in a small square centred at a point of the axes."""
    middle = axes.figure.transFigure.inverted().transform(axes.transData.transform(place))
    width = _SIDE * axes.get_position().width
    height = width * axes.figure.get_figwidth() / axes.figure.get_figheight()
    small = axes.figure.add_axes((middle[0] - width / 2, middle[1] - height / 2, width, height), projection="3d")
    draw_voxels(small, cells, colour)
    small.patch.set_alpha(0)
