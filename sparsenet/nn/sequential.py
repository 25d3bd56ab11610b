"""Sequential: modules one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sparsenet.nn.fusion import run_layers
from sparsenet.nn.module import Module


class Sequential(Module):
    """Modules applied one after another; `layers` is a list that may be changed.

    Names count from 0: the weight of the first layer is "0.weight".

    Raises TypeError if a layer is not a Module.
    """

    def __init__(self, *layers: Module):
        for position, layer in enumerate(layers):
            check_module("Sequential", position, layer)
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        return run_layers(self.layers, x)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Module:
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]


def numbered_kinds(layers: Sequence[Module]) -> list[str]:
    """A name for each layer: its kind, numbered, such as "convolution1", "relu1", "convolution2"."""
    counts: Counter[str] = Counter()
    names = []
    for layer in layers:
        counts[layer.kind] += 1
        names.append(f"{layer.kind}{counts[layer.kind]}")
    return names


def check_module(owner: str, position: int, layer: Any) -> None:
    """Raise TypeError unless `layer` is a Module."""
    if not isinstance(layer, Module):
        raise TypeError(f"{owner}: layer {position} is {type(layer).__name__}, expected a Module")
