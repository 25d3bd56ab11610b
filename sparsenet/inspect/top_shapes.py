"""The shapes of a set that excite each channel of a network most, and where in the shape.

For each channel the shapes are ranked by its greatest value at any of their sites.  Such maxima show what a channel
responds to (Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsenet.autograd import no_grad
from sparsenet.backend import to_device
from sparsenet.inspect.paths import ALL, SAME, path_of, relation_of
from sparsenet.sparse import SparseTensor
from sparsenet.wording import counted, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsenet.data import SparseDataset
    from sparsenet.nn import SparseNetwork

_FIELD, _REST = "#c2185b", "#6f93b8"  # colours of a receptive field and of the other voxels
_BEYOND = np.iinfo(np.int32).max  # where a field begins that holds no cell
_PANEL, _TITLE = 1.9, 0.62  # inches


@dataclass(frozen=True, repr=False, eq=False)
class ChannelTops:
    """The shapes in which each of C channels of a layer is greatest: T of them, the greatest first.

    shapes : (C, T) int64, index into `TopShapes.names`
    values : (C, T), the greatest value of the channel at the shape's sites
    cells : (C, T, D) int32, the site with that value, of several the first; None for a layer without a grid
    fields : (C, T, 2, D) int32, the box of that site's receptive field on the input's grid, among the active cells:
        its first cell, and the one after its last; both zero if the site reads no active cell
    """

    shapes: np.ndarray
    values: np.ndarray
    cells: np.ndarray | None
    fields: np.ndarray


@dataclass(frozen=True)
class TopShape:
    """One shape that excites a channel.

    name, label : of the shape; label "" if its class is unknown
    value : the channel's greatest value
    cell : (D,) the site with that value, None for a layer without a grid
    field : (2, D), see `ChannelTops`
    coordinates : (n, D) int32, the shape's active cells
    """

    name: str
    label: str
    value: float
    cell: tuple[int, ...] | None
    field: np.ndarray
    coordinates: np.ndarray

    @property
    def in_field(self) -> np.ndarray:
        """(n,) bool: which of the shape's cells lie in the field."""
        return ((self.coordinates >= self.field[0]) & (self.coordinates < self.field[1])).all(axis=1)


@dataclass(frozen=True, repr=False, eq=False)
class TopShapes:
    """The result of `top_shapes`.

    names, labels : of the S shapes; a label is the name of a class, "" if it is unknown
    coordinates : (n, D) int32 of each shape, its active cells
    layers : layer name -> ChannelTops
    """

    names: list[str]
    labels: list[str]
    coordinates: list[np.ndarray]
    layers: dict[str, ChannelTops]

    def __repr__(self) -> str:
        return f"TopShapes({counted(len(self.names), 'shape')}, {counted(len(self.layers), 'layer')})"

    def of(self, layer: str, channel: int) -> list[TopShape]:
        """The shapes that excite a channel most, the greatest value first.

        Raises
        ------
        ValueError : there is no such layer or channel.
        """
        if layer not in self.layers:
            raise ValueError(f"TopShapes: there is no layer {layer!r}{did_you_mean(layer, self.layers)}")
        tops = self.layers[layer]
        if not 0 <= channel < len(tops.shapes):
            raise ValueError(f"TopShapes: channel is {channel}, {layer} has 0 to {len(tops.shapes) - 1}")
        return [TopShape(self.names[shape], self.labels[shape], float(tops.values[channel, rank]),
                         None if tops.cells is None else tuple(tops.cells[channel, rank].tolist()),
                         tops.fields[channel, rank], self.coordinates[shape])
                for rank, shape in enumerate(tops.shapes[channel].tolist())]

    def picture(self, layer: str, channels: Iterable[int] = range(4)) -> Figure:
        """A figure (matplotlib) with a row for each channel: its shapes, the receptive field of the greatest value in
        red.

        Raises
        ------
        ValueError : there is no such layer or channel; the shapes have other than 3 dimensions.
        """
        from matplotlib.colors import to_rgb
        from matplotlib.figure import Figure

        from sparsenet.inspect.voxels import draw_voxels

        chosen = list(channels)
        rows = [self.of(layer, channel) for channel in chosen]
        if not rows or self.coordinates[0].shape[1] != 3:
            raise ValueError(f"TopShapes: there are {counted(len(rows), 'channel')} and shapes of "
                             f"{self.coordinates[0].shape[1]} dimensions, expected at least one, and 3")
        across = max(map(len, rows))
        figure = Figure(figsize=(across * _PANEL + 0.4, len(rows) * (_PANEL + _TITLE)), facecolor="white",
                        layout="constrained")
        axes = figure.subplots(len(rows), across, squeeze=False, subplot_kw={"projection": "3d"})
        for channel, line, tops in zip(chosen, axes, rows, strict=True):
            for panel, top in zip(line, tops, strict=False):
                colours = np.where(top.in_field[:, None], to_rgb(_FIELD), to_rgb(_REST))
                draw_voxels(panel, top.coordinates, colours)
                panel.set_title(f"channel {channel}: {top.value:.3g}\n{top.label or top.name.rpartition('/')[2][:22]}",
                                fontsize=8)
            for panel in line[len(tops):]:
                panel.set_axis_off()
        return figure


def top_shapes(net: SparseNetwork, shapes: SparseDataset | Iterable[tuple[str, SparseTensor]], count: int = 5,
               progress: bool = False, **options: Any) -> TopShapes:
    """The `count` shapes that excite each channel of each layer most.

    The layers are those of the inspector page, by the names that it lists: of a block made of layers those within it.
    Inactive cells, which hold the background, do not count.

    Parameters
    ----------
    net : SparseNetwork, runs in evaluation mode; its mode is restored
    shapes : SparseDataset, of whose objects the first poses are taken; or pairs of a name and a SparseTensor of one
        sample
    progress : show a progress bar on stderr if it is a terminal
    options : for `SparseDataset.batches`: render_size, fill, field (default: the network's), ...

    Raises
    ------
    ValueError : count is below 1; there is no shape, one has no site or is not one sample; a layer changes the sites so
        that they cannot be traced back, or returns values that are not finite.

    Example
    -------
    >>> import numpy as np, sparsenet as sn
    >>> net = sn.SparseNetwork(dimension=2, seed=1).add_convolution(3, 2).add_relu()
    >>> line = sn.SparseTensor.from_dense(np.eye(5, dtype=np.float32)[None, None])
    >>> dot = sn.SparseTensor.from_dense(np.eye(5, k=4, dtype=np.float32)[None, None])
    >>> found = top_shapes(net, [("line", line), ("dot", dot)])
    >>> found, [top.name for top in found.of("convolution1", 0)]
    (TopShapes(2 shapes, 2 layers), ['line', 'dot'])
    """
    from tqdm import tqdm

    if count < 1:
        raise ValueError(f"top_shapes: count is {count}, expected at least 1")
    found = TopShapes([], [], [], {})
    named = tqdm(_named(net, shapes, options), desc="top shapes", unit="shape", leave=False,
                 disable=None if progress else True)
    for name, label, x in named:
        if x.batch_size != 1 or not len(x):
            raise ValueError(f"top_shapes: {name} has {counted(x.batch_size, 'sample')} and {counted(len(x), 'site')}, "
                             "expected one sample with at least one site")
        for layer, tops in _maxima(net, x, name, len(found.names)):
            known = found.layers.get(layer)
            found.layers[layer] = tops if known is None else _greatest(known, tops, count)
        found.names.append(name)
        found.labels.append(label)
        found.coordinates.append(to_device(x.coordinates, "cpu")[:, 1:])
    if not found.names:
        raise ValueError("top_shapes: there is no shape, expected at least one")
    return found


def _named(net: SparseNetwork, shapes: Any, options: dict[str, Any]) -> Iterator[tuple[str, str, SparseTensor]]:
    """(name, label, input) of each shape."""
    from sparsenet.data import SparseDataset

    if not isinstance(shapes, SparseDataset):
        if options:
            raise ValueError(f"top_shapes: {', '.join(options)}: for a SparseDataset alone, and shapes is not one")
        yield from ((name, "", x) for name, x in shapes)
        return
    with shapes.batches(1, **{"field": net.field, "geometries": net.geometries(), "poses": "first", **options}
                        ) as batches:
        for batch in batches:
            (sample,), (label,) = batch.sample_ids, batch.labels
            yield str(shapes.names[sample]), shapes.classes[label] if label >= 0 else "", batch.input


def _maxima(net: SparseNetwork, x: SparseTensor, name: str, shape: int) -> Iterator[tuple[str, ChannelTops]]:
    """The greatest value of each channel of each layer, as the only one of its tops."""
    with no_grad(), net.evaluating():
        records = net.activations(x)
    first = to_device(x.coordinates, "cpu")[:, 1:]
    fields = np.stack([first, first + 1], axis=1)
    for record, source in path_of(records):
        fields = _fields(*relation_of(record, source, "top_shapes"), fields)
        features = record.features
        if not np.isfinite(features).all():
            raise ValueError(f"top_shapes: {record.name} has values that are not finite for {name}: check the weights "
                             "of the layers up to it")
        if not len(features):
            continue
        rows = features.argmax(axis=0)
        cells = None if record.sites is None else record.coordinates[rows, None, 1:]
        own = np.where(fields[rows, :1] == _BEYOND, 0, fields[rows])[:, None]
        yield record.name, ChannelTops(np.full((len(rows), 1), shape), features.max(axis=0)[:, None], cells, own)


def _fields(relation: str, neighbours: np.ndarray | None, before: np.ndarray) -> np.ndarray:
    """(M, 2, D): the boxes of the receptive fields of a layer's rows from those of its input's rows (N, 2, D); of one
    that reads no active cell from _BEYOND to -1."""
    if relation == SAME:
        return before
    if relation == ALL:
        neighbours = np.arange(-1, len(before))[None]
    given = np.concatenate([before, np.full((1, 2, before.shape[2]), [[_BEYOND], [-1]], np.int32)])  # -1: no neighbour
    return np.stack([given[neighbours, 0].min(axis=1), given[neighbours, 1].max(axis=1)], axis=1)


def _greatest(one: ChannelTops, other: ChannelTops, count: int) -> ChannelTops:
    """The greatest of both, at most so many; of equal ones those of `one` come first."""
    order = np.argsort(-np.concatenate([one.values, other.values], axis=1), axis=1, kind="stable")[:, :count]

    def merged(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        both = np.concatenate([a, b], axis=1)
        return np.take_along_axis(both, order.reshape(*order.shape, *[1] * (both.ndim - 2)), axis=1)

    cells = None if one.cells is None or other.cells is None else merged(one.cells, other.cells)
    return ChannelTops(merged(one.shapes, other.shapes), merged(one.values, other.values), cells,
                       merged(one.fields, other.fields))
