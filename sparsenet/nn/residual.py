"""Residual: layers with a shortcut around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sparsenet.nn.module import Module
from sparsenet.nn.sequential import check_module
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


def last_channels(layers: Sequence[Module]) -> int | None:
    """The output channels of the last layer that changes their number, also within composites; None if none does."""
    for layer in reversed(layers):
        inner = getattr(layer, "layers", None)
        found = (last_channels(inner) if isinstance(inner, list)
                 else getattr(layer, "out_channels", getattr(layer, "out_features", None)))
        if found is not None:
            return found
    return None
