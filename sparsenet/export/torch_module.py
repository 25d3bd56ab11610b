"""A dense network in PyTorch.  Imports torch: `pytorch.to_torch` imports this module at its first use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from sparsenet.export.dense import DenseGraph, Node
from sparsenet.export.torch_layers import (
    Add,
    Concatenate,
    CosineLinear,
    GlobalPool,
    LayerNormOnCells,
    LinearOnCells,
    PadWithBackground,
    SumPool,
    Upsample,
)
from sparsenet.export.weights import weight_to_torch, weight_to_transposed

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
    return {**_window(node), "dilation": node.settings["dilation"]}


def _window(node: Node) -> dict[str, object]:
    """A filter without dilation, which an average pooling does not have."""
    return {"kernel_size": node.settings["size"], **{name: node.settings[name] for name in ("stride", "padding")}}


@operation("convolution")
def _convolution(node: Node) -> nn.Module:
    kind = _of_dimension("Conv", node, len(node.settings["size"]))
    arrays = {**node.arrays, "weight": weight_to_torch(node.arrays["weight"], node.settings["size"])}
    return _with_weights(kind, arrays, node.inputs[0].channels, node.output.channels, **_filter(node),
                         groups=node.settings["groups"], bias="bias" in node.arrays)


@operation("transposed_convolution")
def _transposed_convolution(node: Node) -> nn.Module:
    settings = node.settings
    kind = _of_dimension("ConvTranspose", node, len(settings["size"]))
    weight = weight_to_transposed(node.arrays["weight"], settings["size"], settings["groups"])
    return _with_weights(kind, {**node.arrays, "weight": weight}, node.inputs[0].channels, node.output.channels,
                         **_filter(node), output_padding=settings["output_padding"], groups=settings["groups"],
                         bias="bias" in node.arrays)


@operation("max_pool")
def _max_pool(node: Node) -> nn.Module:
    return _of_dimension("MaxPool", node, len(node.settings["size"]))(**_filter(node))


@operation("average_pool")
def _average_pool(node: Node) -> nn.Module:
    return _of_dimension("AvgPool", node, len(node.settings["size"]))(**_window(node), count_include_pad=False)


@operation("sum_pool")
def _sum_pool(node: Node) -> nn.Module:
    return SumPool(_average_pool(node), math.prod(node.settings["size"]))


@operation("upsample")
def _upsample(node: Node) -> nn.Module:
    return Upsample(**node.settings)


@operation("leaky_relu")
def _leaky_relu(node: Node) -> nn.Module:
    return nn.LeakyReLU(node.settings["slope"]) if node.settings["slope"] else nn.ReLU()


@operation("elu")
def _elu(node: Node) -> nn.Module:
    return nn.ELU(node.settings["alpha"])


@operation("gelu")
def _gelu(node: Node) -> nn.Module:
    return nn.GELU()


@operation("silu")
def _silu(node: Node) -> nn.Module:
    return nn.SiLU()


@operation("tanh")
def _tanh(node: Node) -> nn.Module:
    return nn.Tanh()


@operation("sigmoid")
def _sigmoid(node: Node) -> nn.Module:
    return nn.Sigmoid()


@operation("prelu")
def _prelu(node: Node) -> nn.Module:
    return _with_weights(nn.PReLU, node.arrays, len(node.arrays["weight"]))


@operation("softmax")
def _softmax(node: Node) -> nn.Module:
    return nn.Softmax(node.settings["axis"])


@operation("batch_norm")
def _batch_norm(node: Node) -> nn.Module:
    kind = _of_dimension("BatchNorm", node, max(1, len(node.output.spatial_size)))
    return _with_weights(kind, node.arrays, node.output.channels, node.settings["eps"], node.settings["momentum"])


@operation("layer_norm")
def _layer_norm(node: Node) -> nn.Module:
    kind = LayerNormOnCells if node.output.spatial_size else nn.LayerNorm
    return _with_weights(kind, node.arrays, node.output.channels, node.settings["eps"])


@operation("group_norm")
def _group_norm(node: Node) -> nn.Module:
    return _with_weights(nn.GroupNorm, node.arrays, node.settings["groups"], node.output.channels, node.settings["eps"])


@operation("linear")
def _linear(node: Node) -> nn.Module:
    arrays = {**node.arrays, "weight": node.arrays["weight"].T}
    kind = LinearOnCells if node.output.spatial_size else nn.Linear
    return _with_weights(kind, arrays, node.inputs[0].channels, node.output.channels, bias="bias" in arrays)


@operation("cosine_linear")
def _cosine_linear(node: Node) -> nn.Module:
    arrays = {"weight": node.arrays["weight"].T}
    return _with_weights(CosineLinear, arrays, node.inputs[0].channels, node.output.channels, node.settings["scale"])


@operation("global_pool")
def _global_pool(node: Node) -> nn.Module:
    return GlobalPool(node.settings["mode"])


@operation("pad")
def _pad(node: Node) -> nn.Module:
    return PadWithBackground(torch.from_numpy(node.arrays["row"].copy()), **node.settings)


@operation("add")
def _add(node: Node) -> nn.Module:
    return Add()


@operation("concatenate")
def _concatenate(node: Node) -> nn.Module:
    return Concatenate()
