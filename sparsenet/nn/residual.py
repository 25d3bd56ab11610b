"""Residual and Skip: layers with a shortcut around them, whose result is added or stands beside theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sparsenet.nn.fusion import run_layers
from sparsenet.nn.images import DepthImages
from sparsenet.nn.module import Module
from sparsenet.nn.sequential import check_module, numbered_kinds
from sparsenet.ops.concatenate import concatenate
from sparsenet.sparse.plan import Branches, Step


class Residual(Module):
    """layers(x) + shortcut(x) (He et al. 2016), on the union of both sites; see `ops.add`.

    layers : Modules, applied one after another
    shortcut : a Module, or None: x itself

    Parameters are named by the position of their layer, "0.weight", or "shortcut.weight".

    Raises TypeError if a layer or the shortcut is not a Module.
    """

    def __init__(self, *layers: Module, shortcut: Module | None = None):
        for position, layer in enumerate((*layers, *(() if shortcut is None else (shortcut,)))):
            check_module("Residual", position, layer)
        self.layers = list(layers)
        self.shortcut = shortcut

    def forward(self, x: Any) -> Any:
        y = x
        for layer in self.layers:
            y = layer(y)
        return y + (x if self.shortcut is None else self.shortcut(x))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from ((str(i), layer) for i, layer in enumerate(self.layers))
        if self.shortcut is not None:
            yield "shortcut", self.shortcut

    def geometries(self) -> list[Step]:
        around = () if self.shortcut is None else tuple(self.shortcut.geometries())
        return [Branches((tuple(step for layer in self.layers for step in layer.geometries()), around))]


class Skip(Module):
    """The channels of layers(x), then those of x, on the union of both sites; see `ops.concatenate`.

    In a U-Net (Ronneberger et al. 2015) the layers lead to a coarser grid, with another Skip there, and back by an
    InverseConv: the result stands on the very sites of x, with their rulebooks.

    layers : Modules, applied one after another

    Parameters are named by the kind of their layer, numbered as in SparseNetwork: "convolution1.weight".

    Raises TypeError if a layer is not a Module.

    Example
    -------
    >>> from sparsenet.nn import InverseConv, ReLU, SparseConv
    >>> down = SparseConv(4, 8, kernel_size=2, stride=2)
    >>> level = Skip(down, ReLU(), InverseConv(8, 6, down))  # 4 channels -> 6 + 4
    """

    def __init__(self, *layers: Module):
        for position, layer in enumerate(layers):
            check_module("Skip", position, layer)
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        return concatenate(run_layers(self.layers, x), x)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from zip(numbered_kinds(self.layers), self.layers, strict=True)

    def geometries(self) -> list[Step]:
        return [Branches((tuple(step for layer in self.layers for step in layer.geometries()), ()))]


def channels_behind(layers: Sequence[Module], channels: int) -> int:
    """The output channels of the last of these layers, also within composites, if the first is given `channels`."""
    for layer in layers:
        inner = getattr(layer, "layers", None)
        if isinstance(layer, Skip):
            channels += channels_behind(layer.layers, channels)
        elif isinstance(layer, DepthImages):
            channels += 1
        elif isinstance(inner, list):
            channels = channels_behind(inner, channels)
        else:
            channels = getattr(layer, "out_channels", getattr(layer, "out_features", channels))
    return channels
