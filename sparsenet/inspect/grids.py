"""Figures of SparseTensors: their cells in space and in slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.backend import to_device
from sparsenet.inspect.style import box, new_figure, plain, scale_for
from sparsenet.inspect.voxels import draw_voxels
from sparsenet.nn.activations import Activation
from sparsenet.sparse import SparseTensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 3.0  # inches
_ACROSS = 4  # panels per row
_MARGIN = 2  # cells shown around the sites of a slice


def sparse_tensor(x: SparseTensor, channel: int | str = "norm", samples: Sequence[int] = (0,)) -> Figure:
    """The active cells of a SparseTensor of 1 to 4 dimensions, coloured by their features.

    channel : a number, or "norm": the Euclidean norm over all channels
    samples : the grids of the batch to draw.  For four dimensions, up to eight steps of the first are shown

    Raises
    ------
    ValueError : the channel or sample does not exist.
    """
    panels = []
    for sample in samples:
        cells, values = _sites_of(x, sample, channel)
        share = 100 * len(cells) / x.sites.cells
        percent = f"{share:.2g}" if share < 10 else f"{share:.0f}"
        title = f"sample {sample}, grid {box(x.spatial_size)}\n{len(cells):,} sites, {percent}% of the cells"
        panels += [(f"{title}\n{step}" if step else title, *part) for step, *part in _steps(x.dimension, cells, values)]
    return _panels(panels, x.spatial_size[-3:], _value_name(channel), whole=x.dimension == 4)


def activation_voxels(records: Sequence[Activation], channel: int | str = "norm", sample: int = 0,
                      gradient: bool = False) -> Figure:
    """The active sites of each layer in space, coloured by their activations, with a scale for each layer.

    records : of `trace` or `net.activations`, such as `seen[:6]`; those of plain Tensors are left out
    channel : a number, or "norm": the Euclidean norm over all channels
    gradient : colour by the gradients of a backward pass instead

    Raises
    ------
    ValueError : no layer has sites in 3 dimensions; the channel or sample does not exist; no gradients.
    """
    records = _with_sites("activation_voxels", records)
    if records[0].output.dimension != 3:
        raise ValueError(f"activation_voxels: the grids have {records[0].output.dimension} dimensions, expected 3: "
                         "draw them with activation_slices")
    panels = []
    for record in records:
        cells, values = _sites_of(record.output, sample, channel, record.gradient if gradient else record.features)
        title = f"{record.index} {record.name}\n{box(record.spatial_size)}, {len(cells):,} sites"
        panels.append((title, cells, values))
    return _panels(panels, None, ("gradient, " if gradient else "") + _value_name(channel), one_scale=False)


def activation_slices(records: Sequence[Activation], channels: int | Sequence[int] = 4, sample: int = 0,
                      axis: int = -1) -> Figure:
    """A slice through the grid of each layer: one row for each layer, one column for each channel.

    Inactive cells show the background (grey if there is none).  The slice is the one with the most
    sites, cropped to its sites with a margin; the ticks count cells.  Each layer has its own scale.

    records : of `trace` or `net.activations`; those of plain Tensors are left out
    channels : their numbers, or how many of the channels with the largest variance to show
    axis : the spatial axis, of three, orthogonal to the slice

    Raises
    ------
    ValueError : no layer has sites; the channel, sample or axis does not exist; the grid has 1 or 4 dimensions.
    """
    records = _with_sites("activation_slices", records)
    count = channels if isinstance(channels, int) else len(channels)
    figure = new_figure(1.2 + 1.75 * count, 1.95 * len(records))
    grid = figure.subplots(len(records), count, squeeze=False)
    for row, record in zip(grid, records, strict=True):
        cut, place, window = _slice(record, sample, axis)
        chosen = _liveliest(record, channels) if isinstance(channels, int) else list(channels)
        if any(not 0 <= channel < record.channels for channel in chosen):
            raise ValueError(f"activation_slices: channels are {chosen}, {record.name} has {record.channels}")
        colours, norm = scale_for(cut[chosen])
        image = None
        for axes, channel in zip(row, chosen, strict=False):
            axes.set_facecolor("#dddddd")
            image = axes.imshow(cut[channel].T, cmap=colours, norm=norm, origin="lower", interpolation="nearest",
                                extent=window)
            plain(axes, f"channel {channel}", 8)
            axes.set_xticks(window[:2])
            axes.set_yticks(window[2:] if axes is row[0] else [])
            axes.tick_params(labelsize=7, length=2)
        for axes in row[len(chosen):]:
            axes.set_axis_off()
        across, along = "xy" if record.output.dimension == 2 else np.delete(list("xyz"), axis)
        name = f"{record.index} {record.name}\n{box(record.spatial_size)}{place}"
        row[0].set_ylabel(f"{name}\n{along}, cells", fontsize=8)
        bar = figure.colorbar(image, ax=list(row), fraction=0.05, pad=0.01)
        bar.ax.tick_params(labelsize=7)
        bar.set_label("activation", fontsize=7)
    figure.supxlabel(f"{across}, cells", fontsize=8)
    return figure


def _with_sites(function: str, records: Sequence[Activation]) -> list[Activation]:
    found = [record for record in records if record.sites is not None]
    if not found:
        raise ValueError(f"{function}: no record has sites: pass records of layers that return a SparseTensor")
    return found


def _sites_of(x: SparseTensor, sample: int, channel: int | str, rows: Any = "features") -> tuple[Any, Any]:
    """The cells (n, D) of one sample, and one number for each."""
    if not 0 <= sample < x.batch_size:
        raise ValueError(f"picture: sample is {sample}, expected 0 to {x.batch_size - 1}")
    if channel != "norm" and not (isinstance(channel, int) and 0 <= channel < x.channels):
        raise ValueError(f"picture: channel is {channel!r}, expected 'norm' or 0 to {x.channels - 1}")
    if rows is None:
        raise ValueError("picture: there are no gradients: first call .backward() on a loss of the trace's output")
    rows = x.features.numpy() if isinstance(rows, str) else rows
    own = slice(*(int(row) for row in x.sites.batch_splits[sample:sample + 2]))
    values = np.linalg.norm(rows[own], axis=1) if channel == "norm" else rows[own, channel]
    return to_device(x.coordinates, "cpu")[own, 1:], values


def _steps(dimension: int, cells: np.ndarray, values: np.ndarray) -> list[tuple[str, Any, Any]]:
    """(caption, cells of at most 3 dimensions, values): all cells, or up to eight steps of the first of 4 axes."""
    if dimension < 4:
        return [("", cells, values)]
    steps = np.unique(cells[:, 0])
    steps = steps[np.linspace(0, len(steps) - 1, min(8, len(steps))).astype(int)] if len(steps) else [0]
    return [(f"step {step} of axis 0", cells[own, 1:], values[own]) for step in steps for own in [cells[:, 0] == step]]


def _panels(panels: list[tuple[str, Any, Any]], size: tuple[int, ...] | None, quantity: str,
            one_scale: bool = True, whole: bool = False) -> Figure:
    """A figure with one panel for each (title, cells, values); `whole` shows the whole grid, not only the cells."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    flat = size is not None and len(size) < 3
    figure = new_figure(across * (_PANEL + 0.6), down * (1.6 if size and len(size) == 1 else _PANEL + 0.1))
    shared = scale_for(np.concatenate([values for *_, values in panels]))
    for number, (title, cells, values) in enumerate(panels):
        axes = figure.add_subplot(down, across, number + 1, **({} if flat else {"projection": "3d"}))
        name, norm = shared if one_scale else scale_for(values)
        if flat:
            _draw_flat(axes, cells, values, size, name, norm)
        else:
            draw_voxels(axes, cells, colormaps[name](norm(values))[:, :3])
            axes.set_box_aspect((1, 1, 1), zoom=1.05)  # keeps the corners of a full grid inside
            if whole:
                axes.set(xlim=(0, max(size)), ylim=(0, max(size)), zlim=(0, max(size)))
        axes.set_title(title, fontsize=9)
        bar = figure.colorbar(ScalarMappable(norm, name), ax=axes, shrink=0.6, pad=0.02)
        bar.set_label(quantity, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _draw_flat(axes: Axes, cells: Any, values: Any, size: tuple[int, ...], name: str, norm: Any) -> None:
    """Draw cells of one or two dimensions: axis 0 to the right, axis 1 upwards."""
    from matplotlib.ticker import MaxNLocator

    image = np.full((*size, 1)[:2], np.nan)
    image[tuple(cells.T) if len(size) == 2 else (cells[:, 0], 0)] = values
    axes.imshow(image.T, cmap=name, norm=norm, origin="lower", interpolation="nearest",
                aspect="equal" if len(size) == 2 else "auto")
    axes.set_facecolor("#f4f4f4")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("axis 0, cells", fontsize=8)
    axes.tick_params(labelsize=7)
    if len(size) == 2:
        axes.set_ylabel("axis 1, cells", fontsize=8)
    else:
        axes.set_yticks([])


def _slice(record: Activation, sample: int, axis: int) -> tuple[np.ndarray, str, tuple[int, ...]]:
    """(C, X, Y), NaN in inactive cells without background; position of the slice; (left, right, bottom, top)."""
    x = record.output
    if x.dimension not in (2, 3) or not -3 <= axis < 3:
        raise ValueError(f"activation_slices: {record.name} has {x.dimension} dimensions and axis is {axis}, expected "
                         "2 or 3, and an axis of three")
    cells, _ = _sites_of(x, sample, "norm")
    own = slice(*(int(row) for row in x.sites.batch_splits[sample:sample + 2]))
    rows, size, place = record.features[own], x.spatial_size, ""
    if x.dimension == 3:
        axis %= 3
        here = int(np.bincount(cells[:, axis], minlength=size[axis]).argmax())
        inside = cells[:, axis] == here
        cells, rows = np.delete(cells[inside], axis, axis=1), rows[inside]
        size, place = tuple(np.delete(size, axis)), f"\n{'xyz'[axis]} = {here}"
    background = np.full(x.channels, np.nan) if record.background is None else record.background
    if background.ndim == 2:
        background = background[sample]
    image = np.empty((x.channels, *size))
    image[:] = background[:, None, None]
    image[(slice(None), *cells.T)] = rows.T
    low = np.maximum(cells.min(axis=0) - _MARGIN, 0) if len(cells) else np.zeros(2, int)
    high = np.minimum(cells.max(axis=0) + 1 + _MARGIN, size) if len(cells) else np.array(size)
    window = (int(low[0]), int(high[0]), int(low[1]), int(high[1]))
    return image[:, window[0]:window[1], window[2]:window[3]], place, window


def _liveliest(record: Activation, count: int) -> list[int]:
    spread = record.features.std(axis=0) if len(record.features) else np.zeros(record.channels)
    return sorted(np.argsort(-spread, kind="stable")[:count].tolist())


def _value_name(channel: int | str) -> str:
    return "norm over the channels" if channel == "norm" else f"channel {channel}"
