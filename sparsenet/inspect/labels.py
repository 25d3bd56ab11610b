"""Pictures of voxels by the part that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.inspect.style import COLOURS, new_figure
from sparsenet.inspect.voxels import draw_voxels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNKNOWN = "#d0d0d0"  # of voxels without a label
_PANEL, _HEIGHT, _LEGEND = 2.6, 2.8, 1.5  # inches
_ACROSS = 4  # panels per row


def labelled_voxels(shapes: Sequence[tuple[Any, Any]], classes: Sequence[str], titles: Sequence[str] = ()) -> Figure:
    """The voxels of one or more shapes, coloured by their labels, with a legend of the classes that occur.

    shapes : (coordinates (n, 3) int, labels (n,) int) of each; a label is an index into `classes`, -1 unknown
    titles : a text above each shape

    Raises
    ------
    ValueError : there is no shape, the titles are not one for each, coordinates and labels do not fit each other, or a
        label is no class.
    """
    from matplotlib.patches import Patch

    if not shapes or (titles and len(titles) != len(shapes)):
        raise ValueError(f"labelled_voxels: there are {len(shapes)} shapes and {len(titles)} titles, expected at least "
                         "one shape, and a title for each or none")
    colours = _colours(len(classes))
    across = min(_ACROSS, len(shapes))
    down = -(-len(shapes) // across)
    figure = new_figure(across * _PANEL + _LEGEND, down * _HEIGHT)
    seen: set[int] = set()
    for number, (coordinates, labels) in enumerate(shapes):
        cells, own = (np.asarray(to_device(np.asarray(a) if isinstance(a, list) else a, "cpu"))
                      for a in (coordinates, labels))
        if cells.ndim != 2 or cells.shape[1] != 3 or own.shape != (len(cells),):
            raise ValueError(f"labelled_voxels: shape {number} has coordinates of shape {cells.shape} and labels of "
                             f"{own.shape}, expected (n, 3) and (n,)")
        if own.size and not (-1 <= own.min() and own.max() < len(classes)):
            raise ValueError(f"labelled_voxels: labels of shape {number} go from {own.min()} to {own.max()}, expected "
                             f"-1 to {len(classes) - 1}")
        axes = figure.add_subplot(down, across, number + 1, projection="3d")
        draw_voxels(axes, cells, colours[own])  # -1 is the last of them
        axes.set_title(titles[number] if titles else "", fontsize=9)
        seen |= set(np.unique(own).tolist())
    handles = [Patch(color=colours[label], label=classes[label] if label >= 0 else "unknown")
               for label in sorted(seen, key=lambda label: label % (len(classes) + 1))]
    figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False)
    return figure


def _colours(count: int) -> np.ndarray:
    """(count + 1, 3) red, green and blue of each class, and of the unknown."""
    from matplotlib.colors import to_rgb

    base = np.array([to_rgb(colour) for colour in COLOURS])
    rounds = np.arange(count) // len(base)  # beyond ten classes paler, then darker ones
    blend = np.array([1.0, 0.55, 0.75])[rounds % 3][:, None]
    towards = np.array([0.0, 1.0, 0.0])[rounds % 3][:, None]
    mixed = base[np.arange(count) % len(base)] * blend + towards * (1 - blend)
    return np.concatenate([mixed, [to_rgb(UNKNOWN)]])
