"""The dense network that a sparse one equals: a list of operations on whole grids (B, C, *spatial) and rows (B, C).

    layers of nn ──layers.py──▶ DenseGraph ──onnx_nodes.py────▶ ONNX
                                         └──torch_module.py──▶ PyTorch

Each layer is also run as it is, on a sample without a site: every cell then holds the background, so this gives the
background, the channels and the spatial size behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor, no_grad
from sparsenet.backend import to_device
from sparsenet.nn.module import Module
from sparsenet.ops.concatenate import concatenate
from sparsenet.sparse import ActiveSites, Geometry, SparseTensor
from sparsenet.sparse.geometry import several

INPUT = "grid"  # the name of the input, (B, C, *field)


@dataclass(frozen=True, eq=False)
class Value:
    """An array of the dense network.

    name : of the operation that computes it
    sample : the same for one sample without a site, from the sparse layers: a SparseTensor, or a Tensor with one row
    """

    name: str
    sample: Any

    @property
    def channels(self) -> int:
        """C"""
        return self.sample.shape[1]

    @property
    def spatial_size(self) -> tuple[int, ...]:
        """(D,); () for rows (B, C)."""
        return self.sample.shape[2:]

    @property
    def background(self) -> np.ndarray | None:
        """(C,), what each inactive cell holds; None if it differs by sample, or for a Tensor."""
        background = self.sample.background if isinstance(self.sample, SparseTensor) else None
        return to_device(background.array, "cpu") if background is not None and background.ndim == 1 else None


@dataclass(frozen=True, eq=False)
class Node:
    """An operation of the dense network; `onnx_nodes.OPERATIONS` lists them.

    name : of the operation and its output, such as "convolution1" or "residual1.0": the layer's
    inputs : Values
    settings : numbers and texts
    arrays : weights, as NumPy arrays in the network's dtype
    output : the array that it computes
    """

    operation: str
    name: str
    inputs: tuple[Value, ...]
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]
    output: Value


Equivalent = Callable[["DenseGraph", str, Any, Value], Value]
_EQUIVALENTS: dict[type[Module], Equivalent] = {}


def dense_equivalent(layer: type[Module]) -> Callable[[Equivalent], Equivalent]:
    """A decorator that registers the dense equivalent of a class of layers, for `onnx` and `to_torch`.

    The function takes (graph, name, layer, x) and returns the layer's output: both are `Value`s of the DenseGraph.
    It holds for subclasses, too, unless they have a `forward` of their own.

    Example
    -------
    >>> import sparsenet as sn
    >>> class Both(sn.nn.Module):
    ...     def __init__(self, first, second):
    ...         self.first, self.second = first, second
    ...     def forward(self, x):
    ...         return sn.ops.concatenate(self.first(x), self.second(x))
    >>> @sn.export.dense_equivalent(Both)
    ... def both(graph, name, layer, x):
    ...     return graph.concatenate(name, graph.inner(name, "first", layer.first, x),
    ...                              graph.inner(name, "second", layer.second, x))
    """
    def register(function: Equivalent) -> Equivalent:
        _EQUIVALENTS[layer] = function
        return function

    return register


@dataclass(eq=False)
class DenseGraph:
    """The operations in an order in which each follows those whose outputs it reads.

    input, output : Values
    nodes : list of Node
    """

    input: Value
    nodes: list[Node] = field(default_factory=list)
    output: Value = field(init=False)

    def __post_init__(self) -> None:
        self.output = self.input

    # ---- for the equivalents of layers ----

    def layer(self, name: str, layer: Module, x: Value) -> Value:
        """Append the dense equivalent of a layer.

        Raises ValueError, which names the layer, if it has none.
        """
        for kind in type(layer).__mro__:
            if kind in _EQUIVALENTS and type(layer).forward is kind.forward:
                return _EQUIVALENTS[kind](self, name, layer, x)
        raise self.refusal(name, layer, "has no dense equivalent that is known here: register one with "
                                        "sn.export.dense_equivalent")

    def inner(self, name: str, child_name: str, child: Module, x: Value) -> Value:
        """Append the dense equivalent of a layer within the layer `name`."""
        return self.layer(f"{name}.{child_name}" if name else child_name, child, x)

    def operation(self, operation: str, name: str, layer: Module, x: Value, settings: dict[str, Any] | None = None,
                  arrays: Mapping[str, Any] | None = None, sample: Any = None) -> Value:
        """Append one operation, which gives what `layer` gives.

        settings : numbers and texts;  arrays : its weights; None leaves one out
        sample : the layer's output for `x.sample`, if it is known
        """
        return self.append(operation, name, (x,), self.run(name, layer, x) if sample is None else sample,
                           settings, arrays)

    def run(self, name: str, layer: Module, x: Value) -> Any:
        """The layer's output for a sample without a site."""
        try:
            return layer(x.sample)
        except (TypeError, ValueError) as error:
            raise type(error)(f"export: {name or 'the network'}: {error}") from None

    def append(self, operation: str, name: str, inputs: Sequence[Value], sample: Any,
               settings: dict[str, Any] | None = None, arrays: Mapping[str, Any] | None = None
               ) -> Value:
        """Append an operation on several inputs.

        sample : its output for a sample without a site
        """
        weights = {key: to_device(value.array if isinstance(value, Tensor) else value, "cpu")
                   for key, value in (arrays or {}).items() if value is not None}
        for key, array in weights.items():
            if not np.isfinite(array).all():
                raise ValueError(f"export: {name}: {key} holds NaN or infinity: has the training diverged?")
        output = Value(name or "result", sample)
        self.nodes.append(Node(operation, output.name, tuple(inputs), settings or {}, weights, output))
        return output

    def add(self, name: str, x: Value, y: Value) -> Value:
        """Append the sum of two grids."""
        return self.append("add", name, (x, y), x.sample + y.sample)

    def concatenate(self, name: str, *values: Value) -> Value:
        """Append the channels of several grids, side by side."""
        return self.append("concatenate", name, values, concatenate(*(x.sample for x in values)))

    def pad(self, name: str, layer: Module, x: Value, before: Sequence[int], after: Sequence[int],
            instead: str = "padding=0") -> Value:
        """Append cells around a grid that hold its background.

        before, after : (D,), number of cells on the two sides of each axis
        instead : what the error recommends

        Raises ValueError if the background differs by sample.
        """
        row = x.background
        if row is None:
            raise self.refusal(name, layer, "pads with the background, which differs by sample here, and a dense layer "
                                            f"has one padding: use {instead}")
        size = tuple(map(sum, zip(before, x.spatial_size, after, strict=True)))
        sites = ActiveSites(x.sample.coordinates, size, 1)
        sample = SparseTensor.from_sites(x.sample.features, sites, x.sample.background)
        return self.append("pad", f"{name or 'result'}_padding", (x,), sample,
                           {"before": tuple(before), "after": tuple(after)}, {"row": row})

    @staticmethod
    def refusal(name: str, layer: Module, words: str) -> ValueError:
        """The error for a layer that cannot be exported."""
        return ValueError(f"export: {name or 'the network'} ({type(layer).__name__}) {words}")


def dense_graph(net: Module, field: int | Sequence[int] | None = None, background: Any = "zeros",
                in_channels: int | None = None) -> DenseGraph:
    """The dense network that `net` in evaluation mode equals; see `onnx` for the arguments and errors."""
    if not isinstance(net, Module):
        raise TypeError(f"export: net is {type(net).__name__}, expected a Module")
    tensor = next((tensor for tensor in net.parameters()), Tensor(np.zeros(1, np.float32)))
    size, channels = _input_size(net, field), getattr(net, "in_channels", None) if in_channels is None else in_channels
    if channels is None:
        raise ValueError(f"export: {type(net).__name__} does not say how many channels its input has, expected "
                         "in_channels=...")
    if background is None:
        raise ValueError("export: background is None, and a dense network has no cells to skip, expected 'zeros' or a "
                         "row (C,): train the network with a background, too")
    sample = SparseTensor(np.zeros((0, channels), tensor.dtype), np.zeros((0, 1 + len(size)), np.int32), size, 1,
                          background)
    graph = DenseGraph(Value(INPUT, sample.to(tensor.device)))
    with no_grad(), net.evaluating():
        graph.output = graph.layer("", net, graph.input)
    return graph


def _input_size(net: Module, field: int | Sequence[int] | None) -> tuple[int, ...]:
    """The sides of the input grid (D,)."""
    known: tuple[int, ...] | None = getattr(net, "field", None)
    if field is None:
        if known is None:
            raise ValueError(f"export: {type(net).__name__} has no field, expected field=...: the sides of the input "
                             "grid")
        return known
    sides = several(field)
    size = Geometry.make(getattr(net, "dimension", 3 if sides is None else len(sides)), field).size
    if known not in (None, size):
        raise ValueError(f"export: field is {size}, the network's is {known}: leave it out")
    return size
