"""The common style of the figures: colours, scales, plain axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

# Ten colours that most people can distinguish; after them the markers change.
COLOURS = ("#3b6ea5", "#c4594f", "#4f9d69", "#8a62a8", "#c98f2b", "#4aa3b8", "#b0588f", "#7a7a3a", "#5a5a5a", "#d98a6a")
MARKERS = "osD^vP*X<>"
FAINT = "#e9ecef"


def new_figure(width: float, height: float) -> Figure:
    """A white figure of this size, in inches, with automatic layout."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)  # inches: 3-D axes report too little height
    return figure


def scale_for(values: Any) -> tuple[str, Normalize]:
    """(name of a colour map, its range) for numbers: blue-white-red around 0 if there are both signs,
    otherwise pale to dark."""
    from matplotlib.colors import Normalize

    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if low < 0 < high:
        limit = max(-low, high)
        return "RdBu_r", Normalize(-limit, limit)
    return "viridis", Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)


def plain(axes: Axes, title: str = "", size: float = 9) -> None:
    """Set a title and remove the ticks."""
    axes.set_title(title, fontsize=size)
    axes.set_xticks([])
    axes.set_yticks([])


def label_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Set the title and the labels of the axes, and add a faint grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def ink_on(rgb: Any) -> str:
    """Black or white, whichever is easier to read on this colour."""
    return "black" if np.dot(rgb[:3], (0.299, 0.587, 0.114)) > 0.55 else "white"


def box(spatial_size: tuple[int, ...]) -> str:
    """(13, 13, 13) as 13x13x13."""
    return "x".join(map(str, spatial_size))
