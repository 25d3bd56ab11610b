"""Records of each layer's input and output, and the summary table of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from sparsenet.autograd import Tensor
from sparsenet.backend import to_device
from sparsenet.nn.inverse import InverseConv
from sparsenet.nn.module import Module, intercepting
from sparsenet.nn.transposed import TransposedConv
from sparsenet.sparse import ActiveSites, ReversedRulebook, Rulebook, SparseTensor
from sparsenet.sparse.reversed_rulebook import way_back
from sparsenet.wording import aligned


@dataclass(frozen=True, repr=False, eq=False)
class Activation:
    """One layer's input and output.

    index : the layer's number, counted from 1 as in the paper's Table 1
    name : its name in the network, such as "convolution1"
    layer : the Module
    inputs : the arguments of the call
    output : the result.  An edited output continues with `net.run(output, start=index)`
    seconds : wall time of the layer's forward pass; None if it was not measured
    parts : for a layer made of layers, such as a Residual: the records of the layers that it called, with its
        number; they may have parts of their own
    saved_bytes : size of what its call saved for the backward pass, other than parameters and rulebooks, and no other
        before it; None if that was not determined, or there is no graph

    `output` is part of the graph.  The properties return its contents as NumPy arrays, for any device;
    if the output is a plain Tensor, `features` is its array, and the properties that only sites have are None.
    """

    index: int
    name: str
    layer: Module
    inputs: tuple[Any, ...]
    output: SparseTensor | Tensor
    seconds: float | None = None
    parts: tuple[Activation, ...] = ()
    saved_bytes: int | None = None

    def __post_init__(self) -> None:
        self._tensor.retain_grad()
        if self._sparse and self.output.background is not None:
            self.output.background.retain_grad()

    @property
    def input(self) -> SparseTensor | Tensor | None:
        """The first SparseTensor or Tensor among the arguments."""
        return next((x for x in self.inputs if isinstance(x, (SparseTensor, Tensor))), None)

    @property
    def operation(self) -> str:
        """The layer's kind: "convolution", "max_pool", ..."""
        return self.layer.kind

    # ---- arrays ----

    @property
    def features(self) -> np.ndarray:
        """(N, C), one row per site."""
        return self._tensor.numpy()

    @property
    def coordinates(self) -> np.ndarray | None:
        """(N, 1+D) int32, the rows [batch, x, y, ...] of the features."""
        return to_device(self.output.coordinates, "cpu") if self._sparse else None

    @property
    def background(self) -> np.ndarray | None:
        """(C,), the feature vector of every inactive cell; (B, C) if samples differ; None without a background."""
        return self.output.background.numpy() if self._sparse and self.output.background is not None else None

    @property
    def gradient(self) -> np.ndarray | None:
        """(N, C), the gradient of the features; None before a backward pass."""
        return None if self._tensor.grad is None else to_device(self._tensor.grad, "cpu")

    @property
    def background_gradient(self) -> np.ndarray | None:
        """The gradient of the background, of its shape: that of all inactive cells together, and of the cells outside
        the grid that a later convolution pads with.  None before a backward pass."""
        found = self.output.background.grad if self._sparse and self.output.background is not None else None
        return None if found is None else to_device(found, "cpu")

    # ---- the grid ----

    @property
    def sites(self) -> ActiveSites | None:
        return self.output.sites if self._sparse else None

    @property
    def spatial_size(self) -> tuple[int, ...] | None:
        return self.output.spatial_size if self._sparse else None

    @property
    def channels(self) -> int | None:
        """C; None for a Tensor of fewer than two axes."""
        return self._tensor.shape[1] if self._tensor.ndim > 1 else None

    @property
    def active_fraction(self) -> float | Any:
        """Sites divided by cells, over the whole batch, 0 to 1; None for a Tensor."""
        return self.output.active_fraction if self._sparse else None

    # ---- the work ----

    @property
    def rulebook(self) -> Rulebook | ReversedRulebook | None:
        """The rulebook between the input's sites and the output's; None if the layer has no filter."""
        geometry, of_new_grid = getattr(self.layer, "geometry", None), isinstance(self.layer, TransposedConv)
        if not (geometry or of_new_grid) or not self._sparse or not isinstance(self.input, SparseTensor):
            return None
        sites = self.input.sites
        if isinstance(self.layer, TransposedConv):
            return self.layer.rulebook(sites)
        return way_back(sites, geometry) if isinstance(self.layer, InverseConv) else sites.rulebook(geometry)

    @property
    def pairs(self) -> int | None:
        """P, the number of pairs in the rulebook; for a layer made of layers, their sum."""
        if self.parts:
            counts = [part.pairs for part in self.parts if part.pairs is not None]
            return sum(counts) if counts else None
        return None if self.rulebook is None else self.rulebook.pair_count

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of the forward pass's matrix products over the pairs, for the whole batch; None if the layer
        has parameters of its own that are not the `weight` of a filter or linear map."""
        return self._sum_of_parts("multiply_adds") if self.parts else self._products(self.pairs)

    @property
    def dense_multiply_adds(self) -> int | None:
        """Multiply-adds of the dense layer: all offsets at all cells of the output, or of the input if windows go out
        from there, as in an InverseConv."""
        if self.parts:
            return self._sum_of_parts("dense_multiply_adds")
        if self.rulebook is None:
            return self._products(None, dense=True)
        grid: Any = self.input if isinstance(self.layer, InverseConv | TransposedConv) else self.output
        return self._products(grid.batch_size * prod(grid.spatial_size) * self.rulebook.shape[2])

    def _sum_of_parts(self, name: str) -> int | None:
        numbers = [getattr(part, name) for part in self.parts]
        return None if None in numbers else sum(numbers)

    def _products(self, pairs: int | None, dense: bool = False) -> int | None:
        weight = getattr(self.layer, "weight", None)
        if isinstance(weight, Tensor):
            if weight.ndim == 3 and pairs is not None:
                return pairs * weight.shape[1] * weight.shape[2]
            if weight.ndim == 2 and isinstance(self.input, SparseTensor):
                cells = self.input.batch_size * prod(self.input.spatial_size)
                return (cells if dense else len(self.input)) * weight.size
            if weight.ndim == 2 and isinstance(self.input, Tensor) and self.input.ndim == 2:
                return self.input.shape[0] * weight.size
            if weight.ndim == 1:  # a scale per channel, not a matrix product
                return 0
        return None if any("." not in name for name, _ in self.layer.named_parameters()) else 0

    # ---- how it looks ----

    @property
    def _sparse(self) -> bool:
        return isinstance(self.output, SparseTensor)

    @property
    def _tensor(self) -> Tensor:
        return self.output.features if self._sparse else self.output

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.features.shape))
        return f"Activation({self.index}, {self.name}: {shape}{'' if self.sites is None else f', {self.sites}'})"


def recorded(number: int, name: str, layer: Module, x: Any) -> Activation:
    """Call the layer and record its input and output, and those of the layers within it, by their names."""
    if not any(layer.named_children()):
        return Activation(number, name, layer, (x,), _with_own_background(x, layer(x)))
    paths = dict(_paths(name, layer))
    found: list[list[Activation]] = [[]]  # the records made within each module that is being called

    def call(module: Module, inputs: tuple[Any, ...]) -> Any:
        found.append([])
        output = _with_own_background(inputs[0] if inputs else None, module.forward(*inputs))
        parts = tuple(found.pop())
        if isinstance(output, SparseTensor | Tensor):
            own_name = paths.get(id(module), module.kind)
            found[-1].append(Activation(number, own_name, module, inputs, output, parts=parts))
        else:
            found[-1] += parts
        return output

    with intercepting(call):
        layer(x)
    return found[0][-1]


def _with_own_background(x: Any, output: Any) -> Any:
    """The output with another Tensor for its background, which has a gradient of its own, if the layer passed on that
    of its input, as poolings do."""
    if not isinstance(x, SparseTensor) or not isinstance(output, SparseTensor) or output is x:
        return output
    if output.background is None or output.background is not x.background:
        return output
    return output.with_features(output.features, output.background.clone())


def _paths(name: str, module: Module) -> Iterator[tuple[int, str]]:
    yield id(module), name
    for own, child in module.named_children():
        yield from _paths(f"{name}.{own}", child)


def with_parts(record: Activation) -> Iterator[Activation]:
    """The record and those of the layers within it, parents first.

    Composites within it are left out unless they compute a result of their own, such as the sum of a Residual.
    """
    yield record
    for part in record.parts:
        own = not any(inner.output is part.output for inner in part.parts)
        for inner in with_parts(part):
            if own or inner is not part:
                yield inner


def table(given: SparseTensor, records: Sequence[Activation]) -> str:
    """An aligned table: a line for the input, for each record and each of its parts, and for the totals."""
    rows = [("", "layer", "settings", "spatial size", "channels", "sites", "active %", "pairs", "multiply-adds",
             "weights")]
    rows.append(("0", "input", "", *grid_words(given), "", "", ""))
    for record in records:
        for one in with_parts(record):
            rows.append((str(record.index) if one is record else "", one.name, one.layer.extra_repr(),
                         *grid_words(one.output), _number(one.pairs), _number(one.multiply_adds),
                         _number(one.layer.parameter_count())))
    # a shared parameter counts once
    weights = {id(p): p.size for record in records for p in record.layer.parameters()}
    rows.append(("", "total", f"batch of {given.batch_size}", "", "", "", "", "",
                 _number(sum(record.multiply_adds or 0 for record in records)), _number(sum(weights.values()))))
    return aligned(rows, left=(1, 2), rules=(1, -1))


def grid_words(x: SparseTensor | Tensor) -> tuple[str, str, str, str]:
    """Spatial size, channels, sites and active %, as texts."""
    if not isinstance(x, SparseTensor):
        return "", str(x.shape[1]) if x.ndim > 1 else "", "", ""
    return "x".join(map(str, x.spatial_size)), str(x.channels), f"{len(x):,}", f"{100 * x.active_fraction:.2f}"


def _number(value: int | None) -> str:
    return f"{value:,}" if value else ""
