"""A dense network in PyTorch.  Imports torch: `pytorch.to_torch` imports this module at its first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sparsenet.export.dense import DenseGraph, Node
from sparsenet.export.weights import weight_to_torch

OPERATIONS: dict[str, Callable[[Node], nn.Module]] = {}


class DenseNetwork(nn.Module):
    """The dense network that a sparse one equals: a grid (B, C, *field) to what the sparse network returns, as a grid.

    Modules and weights have the names of the sparse network's: "convolution1.weight".
    """

    def __init__(self, graph: DenseGraph):
        super().__init__()
        self.input, self.output = graph.input.name, graph.output.name
        self.input_shape = (graph.input.channels, *graph.input.spatial_size)
        self.steps: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []  # name, inputs, those not read again
        modules = {node.name: _module(node) for node in graph.nodes}
        read = {self.output}
        for node in reversed(graph.nodes):
            inputs = tuple(x.name for x in node.inputs)
            self.steps.insert(0, (node.name, inputs, tuple(set(inputs) - read)))
            read.update(inputs)
        for name, module in modules.items():
            self._attach(name, module, modules)

    def _attach(self, path: str, module: nn.Module, modules: dict[str, nn.Module]) -> None:
        """Make it a submodule; a part of the path that is no operation becomes a module of its own."""
        parent, prefix = self, ""
        *parts, last = path.split(".")
        for part in parts:
            prefix = f"{prefix}.{part}" if prefix else part
            if part not in dict(parent.named_children()):
                parent.add_module(part, modules.get(prefix) or nn.Module())
            parent = parent.get_submodule(part)
        if last not in dict(parent.named_children()):
            parent.add_module(last, module)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        if tuple(grid.shape[1:]) != self.input_shape:
            raise ValueError(f"DenseNetwork: the grid has shape {tuple(grid.shape)}, expected (B, "
                             f"{', '.join(map(str, self.input_shape))})")
        values = {self.input: grid}
        for name, inputs, finished in self.steps:
            values[name] = self.get_submodule(name)(*(values[x] for x in inputs))
            for x in finished:
                del values[x]
        return values[self.output]


class GlobalPool(nn.Module):
    """The mean, maximum or sum over all cells: (B, C, *spatial) to (B, C)."""

    def __init__(self, mode: str):
        super().__init__()
        self.mode = mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = x.flatten(2)
        return cells.amax(2) if self.mode == "max" else cells.sum(2) if self.mode == "sum" else cells.mean(2)

    def extra_repr(self) -> str:
        return self.mode


class CosineLinear(nn.Linear):
    """scale * the cosine of a row and each row of the weight; 0 for a zero row."""

    def __init__(self, in_features: int, out_features: int, scale: float, device: Any = None, dtype: Any = None):
        super().__init__(in_features, out_features, bias=False, device=device, dtype=dtype)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * nn.functional.linear(_units(x), _units(self.weight))


def _units(rows: torch.Tensor) -> torch.Tensor:
    """Rows divided by their norms, and first by their largest number, so that no square overflows."""
    scaled = rows / rows.detach().abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return nn.functional.normalize(scaled, dim=1)


class PadWithBackground(nn.Module):
    """Cells on each side of the grid that hold a row (C,), the background there when the network was exported."""

    def __init__(self, row: torch.Tensor, padding: Sequence[int]):
        super().__init__()
        self.register_buffer("row", row)
        self.widths = [width for width in reversed(padding) for _ in range(2)]  # last axis first, as `pad` wants them

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outside = nn.functional.pad(x.new_zeros(1, 1, *x.shape[2:]), self.widths, value=1)
        column = self.row.reshape(-1, *[1] * (x.ndim - 2))
        return nn.functional.pad(x, self.widths) + outside * column


class Add(nn.Module):
    """x + y"""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Concatenate(nn.Module):
    """The channels of all inputs, side by side."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat(inputs, 1)


# ---- of the operations ----

def operation(name: str) -> Callable[[Callable[[Node], nn.Module]], Callable[[Node], nn.Module]]:
    """A decorator that registers the module of a dense operation."""
    def register(function: Callable[[Node], nn.Module]) -> Callable[[Node], nn.Module]:
        OPERATIONS[name] = function
        return function

    return register


def _module(node: Node) -> nn.Module:
    if node.operation not in OPERATIONS:
        raise ValueError(f"export: {node.name}: {node.operation} is not an operation of PyTorch that is known here, "
                         f"expected one of {', '.join(OPERATIONS)}")
    return OPERATIONS[node.operation](node)


def _of_dimension(kind: str, node: Node, dimension: int) -> type[nn.Module]:
    """The class of nn for that many dimensions, such as Conv3d."""
    if dimension > 3:
        raise ValueError(f"export: {node.name}: PyTorch has no {kind} of {dimension} dimensions, expected 1 to 3")
    return getattr(nn, f"{kind}{dimension}d")


def _with_weights(kind: type[nn.Module], arrays: Mapping[str, np.ndarray], *arguments: object, **options: object
                  ) -> nn.Module:
    """A module that holds copies of the arrays, made without drawing random numbers."""
    module = nn.utils.skip_init(kind, *arguments, dtype=torch.from_numpy(arrays["weight"]).dtype, **options)
    with torch.no_grad():
        for name, array in arrays.items():
            getattr(module, name).copy_(torch.from_numpy(array))
    return module


def _filter(node: Node) -> dict[str, object]:
    settings = node.settings
    return {"kernel_size": settings["size"], **{name: settings[name] for name in ("stride", "padding", "dilation")}}


@operation("convolution")
def _convolution(node: Node) -> nn.Module:
    kind = _of_dimension("Conv", node, len(node.settings["size"]))
    arrays = {**node.arrays, "weight": weight_to_torch(node.arrays["weight"], node.settings["size"])}
    return _with_weights(kind, arrays, node.inputs[0].channels, node.output.channels, **_filter(node),
                         groups=node.settings["groups"], bias="bias" in node.arrays)


@operation("max_pool")
def _max_pool(node: Node) -> nn.Module:
    return _of_dimension("MaxPool", node, len(node.settings["size"]))(**_filter(node))


@operation("leaky_relu")
def _leaky_relu(node: Node) -> nn.Module:
    return nn.LeakyReLU(node.settings["slope"]) if node.settings["slope"] else nn.ReLU()


@operation("batch_norm")
def _batch_norm(node: Node) -> nn.Module:
    kind = _of_dimension("BatchNorm", node, max(1, len(node.output.spatial_size)))
    return _with_weights(kind, node.arrays, node.output.channels, node.settings["eps"], node.settings["momentum"])


@operation("linear")
def _linear(node: Node) -> nn.Module:
    arrays = {**node.arrays, "weight": node.arrays["weight"].T}
    return _with_weights(nn.Linear, arrays, node.inputs[0].channels, node.output.channels, bias="bias" in arrays)


@operation("cosine_linear")
def _cosine_linear(node: Node) -> nn.Module:
    arrays = {"weight": node.arrays["weight"].T}
    return _with_weights(CosineLinear, arrays, node.inputs[0].channels, node.output.channels, node.settings["scale"])


@operation("global_pool")
def _global_pool(node: Node) -> nn.Module:
    return GlobalPool(node.settings["mode"])


@operation("pad")
def _pad(node: Node) -> nn.Module:
    return PadWithBackground(torch.from_numpy(node.arrays["row"].copy()), node.settings["padding"])


@operation("add")
def _add(node: Node) -> nn.Module:
    return Add()


@operation("concatenate")
def _concatenate(node: Node) -> nn.Module:
    return Concatenate()
