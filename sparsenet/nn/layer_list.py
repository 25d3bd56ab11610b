"""Networks from lists of layers in plain values, such as a config file states them.

    [{"kind": "submanifold", "channels": 16, "size": 3}, "batch_norm", "relu",
     {"kind": "residual", "layers": [{"kind": "submanifold", "channels": 16, "size": 3}, "batch_norm"]},
     {"kind": "convolution", "channels": 32, "size": 2, "stride": 2}]

A layer is a table of its kind and its settings, or the kind alone as a text.  The kinds are the `add_` methods of
`SparseNetwork` and the settings their arguments (`channels` for out_channels and out_features), so that both
have the same defaults, and the same seed gives the same first weights.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from sparsenet.nn.module import Module
from sparsenet.nn.network import SparseNetwork
from sparsenet.nn.residual import Skip
from sparsenet.nn.sequential import Sequential
from sparsenet.random import keyed_rng
from sparsenet.sparse.plan import Course
from sparsenet.toml import as_toml, shortened, shown
from sparsenet.wording import did_you_mean

Layer = dict[str, Any]
_NAMES = {"out_channels": "channels", "out_features": "channels"}  # of an argument -> of a setting
_TYPES = {"int": "a whole number", "Size": "a whole number, or a list of one for each dimension", "float": "a number",
          "bool": "true or false", "str": "a text", "layers": "a list of layers"}
_A_KIND = "expected one such as convolution or batch_norm: `sparsenet train --keys` lists the kinds of layers"
_GIVE_ROWS = ("global_pool", "cosine_linear", "to_dense")  # and so does what follows them
_MAX_NUMBER, _MAX_DEPTH = 2**31 - 1, 16


class Setting(NamedTuple):
    """A setting of a kind of layer: the argument that it is passed as, its type, and its default (None: as the layer
    has it)."""

    argument: str
    type: str
    required: bool
    default: Any


@cache
def layer_kinds() -> dict[str, dict[str, Setting]]:
    """The settings of each kind of layer, by name: of each `add_` method of SparseNetwork that plain values can call,
    of "residual", whose layers and shortcut are lists of layers, and of "skip", whose layers are."""
    kinds = {}
    for method in sorted(name for name in vars(SparseNetwork) if name.startswith("add_")):
        settings, complete = {}, True
        for name, parameter in list(inspect.signature(getattr(SparseNetwork, method)).parameters.items())[1:]:
            kind, required = str(parameter.annotation).removesuffix(" | None"), parameter.default is parameter.empty
            if kind in _TYPES:
                settings[_NAMES.get(name, name)] = Setting(name, kind, required,
                                                           None if required else parameter.default)
            elif required:
                complete = False
        if complete:
            kinds[method.removeprefix("add_")] = settings
    kinds["residual"] = {"layers": Setting("layers", "layers", True, None),
                         "shortcut": Setting("shortcut", "layers", False, None)}
    kinds["skip"] = {"layers": Setting("layers", "layers", True, None)}
    return dict(sorted(kinds.items()))


def describe_layers() -> list[str]:
    """A line for each kind of layer: its settings, with their defaults."""
    lines = []
    for kind, settings in layer_kinds().items():
        words = [name if setting.required or setting.default is None else f"{name} = {as_toml(setting.default)}"
                 for name, setting in settings.items()]
        lines.append(f"{kind}{': ' if words else ''}{', '.join(words)}")
    return lines


# ---- checking ----

def checked_layers(layers: Any, place: str = "", depth: int = 0) -> tuple[Layer, ...]:
    """The layers as tables, each with its kind first.

    layers : list of tables and texts;  place : of the list within others, for messages, such as "3.shortcut."

    Raises ValueError, which names the layer (counted from 1), for an unknown kind or key, a missing key, or a value of
    another type.  Ranges are checked when the network is built.
    """
    if not isinstance(layers, list | tuple):
        raise ValueError(f"{place[:-1] or 'layers'} is {shown(layers)}, expected a list of layers")
    if depth > _MAX_DEPTH:
        raise ValueError(f"layer {place[:-1]}: nested too deeply, expected at most {_MAX_DEPTH} levels")
    return tuple(_checked_layer(layer, f"{place}{number}", depth) for number, layer in enumerate(layers, start=1))


def _checked_layer(layer: Any, place: str, depth: int) -> Layer:
    kinds = layer_kinds()
    if isinstance(layer, str):
        layer = {"kind": layer}
    if not isinstance(layer, dict):
        raise ValueError(f"layer {place} is {shown(layer)}, expected a kind, or a table of kind and settings")
    if "kind" not in layer:
        raise ValueError(f"layer {place} has no kind, {_A_KIND}")
    kind = layer["kind"]
    if not isinstance(kind, str) or kind not in kinds:
        hint = did_you_mean(kind, kinds) if isinstance(kind, str) else ""
        raise ValueError(f"layer {place}: kind is {shown(kind)}{hint or f', {_A_KIND}'}")
    settings, where = kinds[kind], f"layer {place} ({kind})"
    missing = [name for name, setting in settings.items() if setting.required and name not in layer]
    for name in layer:
        if name != "kind" and name not in settings:
            hint = did_you_mean(name, missing or settings) or did_you_mean(name, settings)
            raise ValueError(f"{where}: {shortened(name)} is not a key{hint or _one_of(settings)}")
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing, expected {_TYPES[settings[missing[0]].type]}")
    return {"kind": kind} | {name: _checked_value(layer[name], setting.type, f"{where}: {name}", f"{place}.{name}.",
                                                  depth)
                             for name, setting in settings.items() if name in layer}


def _one_of(names: Iterable[str]) -> str:
    return f", expected one of {', '.join(names)}" if names else ", expected no keys"


def _checked_value(value: Any, type_: str, where: str, place: str, depth: int) -> Any:
    if type_ == "layers" and isinstance(value, list | tuple):
        if not value:
            raise ValueError(f"{where} is empty, expected at least one layer")
        return list(checked_layers(value, place, depth + 1))
    numbers = value if isinstance(value, list) else [value]
    fits = {
        "int": lambda: type(value) is int,
        "Size": lambda: bool(numbers) and all(type(number) is int for number in numbers),
        "float": lambda: type(value) in (int, float) and math.isfinite(value),
        "bool": lambda: type(value) is bool,
        "str": lambda: isinstance(value, str),
    }.get(type_, lambda: False)
    if any(isinstance(v, int) and abs(v) > _MAX_NUMBER for v in numbers):
        raise ValueError(f"{where} is {shown(value)}, expected numbers of at most {_MAX_NUMBER}")
    if not fits():
        raise ValueError(f"{where} is {shown(value)}, expected {_TYPES[type_]}")
    return value


# ---- building ----

def network_of(layers: Iterable[Layer | str], dimension: int = 3, in_channels: int = 1, seed: int = 0
               ) -> SparseNetwork:
    """The network of these layers, with its first weights.

    Raises ValueError, which names the layer (counted from 1), if a layer does not fit behind those before it, or see
    `checked_layers`.
    """
    net = SparseNetwork(dimension, in_channels, seed)
    for number, layer in enumerate(checked_layers(list(layers)), start=1):
        _add(net, layer, str(number), _Block(len(net.layers), count()))
    return net


class _Block(NamedTuple):
    """A layer of the network that may have layers within it: its place, and the numbers of those."""

    place: int
    numbers: Iterator[int]


class _Path(SparseNetwork):
    """Layers within a block, whose first weights are keyed by (seed, place of the block, their number in it)."""

    def __init__(self, outer: SparseNetwork, block: _Block):
        super().__init__(outer.out_dimension, outer.out_channels, outer.seed)
        self._block = block
        self._numbers: dict[int, int] = {}  # of a place: drawing again gives the same

    def _rng(self, place: int) -> np.random.Generator:
        if place not in self._numbers:
            self._numbers[place] = next(self._block.numbers)
        return keyed_rng(self.seed, "weights", self._block.place, self._numbers[place])


def _add(net: SparseNetwork, layer: Layer, place: str, block: _Block) -> None:
    """Append a layer to the network or path."""
    settings, kind = layer_kinds()[layer["kind"]], layer["kind"]
    arguments: dict[str, Any] = {settings[name].argument: value for name, value in layer.items() if name != "kind"}
    layers: tuple[Module, ...] = ()
    if kind == "residual":
        layers, arguments = _residual(net, layer, place, block)
    elif kind == "skip":
        layers, arguments = tuple(_path(net, layer, "layers", place, block).layers), {}
    try:
        getattr(net, f"add_{kind}")(*layers, **arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {place} ({kind}): {error}") from None


def _path(net: SparseNetwork, layer: Layer, name: str, place: str, block: _Block) -> _Path:
    """The path of a block behind the network or path, by its key in the layer's table."""
    path = _Path(net, block)
    for number, inner in enumerate(layer.get(name, ()), start=1):
        _add(path, inner, f"{place}.{name}.{number}", block)
        if path.out_dimension != net.out_dimension:
            raise ValueError(f"layer {place}.{name}.{number} ({inner['kind']}): it gives images, and the other path of "
                             f"a {layer['kind']} does not: put it before the block")
        if path.gives_rows:
            needs = {"residual": "the sum of a residual block", "skip": "a skip"}[layer["kind"]]
            raise ValueError(f"layer {place}.{name}.{number} ({inner['kind']}): it gives one row per sample, and "
                             f"{needs} needs sites: put it behind the block")
    return path


def _residual(net: SparseNetwork, layer: Layer, place: str, block: _Block
              ) -> tuple[tuple[Module, ...], dict[str, Any]]:
    """The layers and the shortcut of a residual block behind the network or path, as `add_residual` takes them."""
    main, around = (_path(net, layer, name, place, block) for name in ("layers", "shortcut"))
    if main.out_channels != around.out_channels:
        other = "the shortcut gives" if around.layers else "the input has"
        raise ValueError(f"layer {place} (residual): the layers give {main.out_channels} channels, {other} "
                         f"{around.out_channels}: give the block a shortcut that gives {main.out_channels}")
    shortcut = around.layers[0] if len(around.layers) == 1 else Sequential(*around.layers) if around.layers else None
    return tuple(main.layers), {"shortcut": shortcut}


# ---- grids ----

def grids(net: SparseNetwork, field: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The sides of the grid at the input and behind each layer; () behind a layer that gives one row per sample.

    Raises ValueError, which names the layer, if a filter is larger than its grid, or the paths of a block lead to
    different grids.
    """
    sizes, course, rows = [tuple(field)], Course(tuple(field)), False
    for number, layer in enumerate(net.layers, start=1):
        try:
            size = course.follow(layer.geometries())
        except ValueError as error:
            raise ValueError(f"layer {number} ({layer.kind}): {error}") from None
        rows = rows or layer.kind in _GIVE_ROWS
        sizes.append(() if rows else size)
    return sizes


def normalises_rows(net: SparseNetwork, field: tuple[int, ...]) -> bool:
    """Whether a batch norm stands where there is one row per sample: on a grid of one cell, or behind it."""
    return _normalises_rows(net.layers, Course(tuple(field)))


def _normalises_rows(layers: Iterable[Module], course: Course) -> bool:
    rows = False
    for layer in layers:
        if isinstance(layer, Skip) and _normalises_rows(layer.layers, copy.deepcopy(course)):
            return True
        before, after = math.prod(course.size), math.prod(course.follow(layer.geometries()))
        rows = rows or layer.kind in _GIVE_ROWS
        if (rows or 1 in (before, after)) and any(
                module.kind == "batch_norm" for module in layer.modules() if not isinstance(layer, Skip)):
            return True
    return False
