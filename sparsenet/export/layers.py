"""The dense equivalent of each kind of layer, or why it has none."""

from __future__ import annotations

from typing import Any

from sparsenet.export.dense import DenseGraph, Value, dense_equivalent
from sparsenet.nn import (
    ELU,
    GELU,
    BatchNorm,
    Checkpoint,
    CosineLinear,
    Dropout,
    GlobalPool,
    GroupNorm,
    InstanceNorm,
    InverseConv,
    LayerNorm,
    LeakyReLU,
    Linear,
    PReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Skip,
    Softmax,
    SparseAvgPool,
    SparseConv,
    SparseMaxPool,
    SparseNetwork,
    SparseSumPool,
    SubmanifoldConv,
    Tanh,
    ToDense,
    TransposedConv,
    Upsample,
)
from sparsenet.sparse import Geometry, SparseTensor

# ---- layers made of layers ----


@dense_equivalent(SparseNetwork)
def network(graph: DenseGraph, name: str, layer: SparseNetwork, x: Value) -> Value:
    for child_name, child in zip(layer.names(), layer.layers, strict=True):
        x = graph.inner(name, child_name, child, x)
    return x


@dense_equivalent(Checkpoint)
@dense_equivalent(Sequential)
def sequential(graph: DenseGraph, name: str, layer: Sequential, x: Value) -> Value:
    for number, child in enumerate(layer.layers):
        x = graph.inner(name, str(number), child, x)
    return x


@dense_equivalent(Residual)
def residual(graph: DenseGraph, name: str, layer: Residual, x: Value) -> Value:
    y = sequential(graph, name, Sequential(*layer.layers), x)
    return graph.add(name, y, x if layer.shortcut is None else graph.inner(name, "shortcut", layer.shortcut, x))


@dense_equivalent(Skip)
def skip(graph: DenseGraph, name: str, layer: Skip, x: Value) -> Value:
    y = x
    for child_name, child in layer.named_children():
        y = graph.inner(name, child_name, child, y)
    return graph.concatenate(name, y, x)


# ---- filters ----

@dense_equivalent(SparseConv)
def convolution(graph: DenseGraph, name: str, layer: SparseConv, x: Value) -> Value:
    """Padding with a background that is not zero is an operation of its own."""
    settings, sample = filter_settings(layer.geometry), graph.run(name, layer, x)
    if any(layer.geometry.padding) and (x.background is None or x.background.any()):
        x = graph.pad(name, layer, x, layer.geometry.padding, layer.geometry.padding)
        settings["padding"] = (0,) * layer.geometry.dimension
    settings["groups"] = layer.in_channels // layer.weight.shape[1]
    arrays = {"weight": layer.weight, "bias": layer.bias}
    return graph.operation("convolution", name, layer, x, settings, arrays, sample)


@dense_equivalent(TransposedConv)
def transposed_convolution(graph: DenseGraph, name: str, layer: TransposedConv, x: Value) -> Value:
    """On a zero background; on another the layer itself raises."""
    settings = {**filter_settings(layer.settings), "output_padding": layer.spacing.more, "groups": layer.groups}
    return graph.operation("transposed_convolution", name, layer, x, settings,
                           {"weight": layer.weight, "bias": layer.bias})


@dense_equivalent(SparseMaxPool)
def max_pool(graph: DenseGraph, name: str, layer: SparseMaxPool, x: Value) -> Value:
    return graph.operation("max_pool", name, layer, x, filter_settings(layer.geometry))


@dense_equivalent(SparseAvgPool)
def average_pool(graph: DenseGraph, name: str, layer: SparseAvgPool, x: Value) -> Value:
    return graph.operation("average_pool", name, layer, x, filter_settings(layer.geometry))


@dense_equivalent(SparseSumPool)
def sum_pool(graph: DenseGraph, name: str, layer: SparseSumPool, x: Value) -> Value:
    return graph.operation("sum_pool", name, layer, x, filter_settings(layer.geometry))


def filter_settings(geometry: Geometry) -> dict[str, Any]:
    """The settings of an operation with a filter."""
    return {name: getattr(geometry, name) for name in ("size", "stride", "padding", "dilation")}


@dense_equivalent(Upsample)
def upsample(graph: DenseGraph, name: str, layer: Upsample, x: Value) -> Value:
    """Cells that no copy reaches are copies of padding that holds the background; what lies beyond is cut off."""
    sample = graph.run(name, layer, x)
    scale, sides = layer.upsampling.scales(len(x.spatial_size)), sample.spatial_size
    more = tuple(max(0, -(-side // s) - n) for side, s, n in zip(sides, scale, x.spatial_size, strict=True))
    if any(more):
        x = graph.pad(name, layer, x, (0,) * len(more), more, "a spatial_size that the copies fill")
    return graph.operation("upsample", name, layer, x, {"scale": scale, "spatial_size": sides}, sample=sample)


# ---- layers of single cells or rows ----

@dense_equivalent(LeakyReLU)
def leaky_relu(graph: DenseGraph, name: str, layer: LeakyReLU, x: Value) -> Value:
    return graph.operation("leaky_relu", name, layer, x, {"slope": layer.negative_slope})


@dense_equivalent(ELU)
def elu(graph: DenseGraph, name: str, layer: ELU, x: Value) -> Value:
    return graph.operation("elu", name, layer, x, {"alpha": layer.alpha})


@dense_equivalent(GELU)
def gelu(graph: DenseGraph, name: str, layer: GELU, x: Value) -> Value:
    return graph.operation("gelu", name, layer, x)


@dense_equivalent(SiLU)
def silu(graph: DenseGraph, name: str, layer: SiLU, x: Value) -> Value:
    return graph.operation("silu", name, layer, x)


@dense_equivalent(Tanh)
def tanh(graph: DenseGraph, name: str, layer: Tanh, x: Value) -> Value:
    return graph.operation("tanh", name, layer, x)


@dense_equivalent(Sigmoid)
def sigmoid(graph: DenseGraph, name: str, layer: Sigmoid, x: Value) -> Value:
    return graph.operation("sigmoid", name, layer, x)


@dense_equivalent(PReLU)
def prelu(graph: DenseGraph, name: str, layer: PReLU, x: Value) -> Value:
    return graph.operation("prelu", name, layer, x, {}, {"weight": layer.weight})


@dense_equivalent(Softmax)
def softmax(graph: DenseGraph, name: str, layer: Softmax, x: Value) -> Value:
    """The channels of a SparseTensor, its last axis, are axis 1 of the grid."""
    sample = graph.run(name, layer, x)
    axis = 1 if isinstance(x.sample, SparseTensor) else layer.axis % x.sample.ndim
    return graph.operation("softmax", name, layer, x, {"axis": axis}, sample=sample)


@dense_equivalent(Dropout)
@dense_equivalent(ToDense)
def unchanged(graph: DenseGraph, name: str, layer: Dropout | ToDense, x: Value) -> Value:
    return Value(x.name, graph.run(name, layer, x))


@dense_equivalent(GlobalPool)
def global_pool(graph: DenseGraph, name: str, layer: GlobalPool, x: Value) -> Value:
    return graph.operation("global_pool", name, layer, x, {"mode": layer.mode})


@dense_equivalent(Linear)
def linear(graph: DenseGraph, name: str, layer: Linear, x: Value) -> Value:
    """Of rows (B, C), or of each cell of a grid, like a convolution of one cell."""
    return graph.operation("linear", name, layer, x, {}, {"weight": layer.weight, "bias": layer.bias})


@dense_equivalent(CosineLinear)
def cosine_linear(graph: DenseGraph, name: str, layer: CosineLinear, x: Value) -> Value:
    return graph.operation("cosine_linear", name, layer, x, {"scale": layer.scale}, {"weight": layer.weight})


# ---- norms: by constants, by the channels of a cell, or by all cells of a sample ----

@dense_equivalent(BatchNorm)
def batch_norm(graph: DenseGraph, name: str, layer: BatchNorm, x: Value) -> Value:
    arrays = {key: getattr(layer, key) for key in ("weight", "bias", "running_mean", "running_var")}
    return graph.operation("batch_norm", name, layer, x, {"eps": layer.eps, "momentum": layer.momentum}, arrays)


@dense_equivalent(LayerNorm)
def layer_norm(graph: DenseGraph, name: str, layer: LayerNorm, x: Value) -> Value:
    return graph.operation("layer_norm", name, layer, x, {"eps": layer.eps}, affine(layer))


@dense_equivalent(InstanceNorm)
@dense_equivalent(GroupNorm)
def group_norm(graph: DenseGraph, name: str, layer: GroupNorm | InstanceNorm, x: Value) -> Value:
    """Of a grid over all cells; an instance norm has a group for each channel.  Rows have no other cells."""
    if layer.statistics != "grid" and isinstance(x.sample, SparseTensor):
        raise graph.refusal(name, layer, "has no dense equivalent: it takes the statistics of a sample's sites, and a "
                                         'dense norm those of all cells: train with statistics="grid" instead')
    groups = layer.groups if isinstance(layer, GroupNorm) else layer.channels
    return graph.operation("group_norm", name, layer, x, {"groups": groups, "eps": layer.eps}, affine(layer))


def affine(layer: GroupNorm | InstanceNorm | LayerNorm) -> dict[str, Any]:
    """The arrays of a norm without running statistics."""
    return {"weight": layer.weight, "bias": layer.bias}


# ---- layers that leave out cells which the dense layer fills ----

@dense_equivalent(SubmanifoldConv)
def submanifold(graph: DenseGraph, name: str, layer: SubmanifoldConv, x: Value) -> Value:
    padding = ", ".join(map(str, layer.geometry.padding))
    raise graph.refusal(name, layer, "has no dense equivalent: it computes its input's sites alone, and a dense "
                                     f"convolution all cells: train with SparseConv(..., padding=({padding})) instead")


@dense_equivalent(InverseConv)
def inverse_convolution(graph: DenseGraph, name: str, layer: InverseConv, x: Value) -> Value:
    raise graph.refusal(name, layer, "has no dense equivalent: it computes the sites of an earlier layer alone, and a "
                                     "dense transposed convolution all cells: export the layers before it, or train "
                                     "without it")
