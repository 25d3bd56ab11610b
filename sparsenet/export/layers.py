"""The dense equivalent of each kind of layer, or why it has none."""

from __future__ import annotations

from typing import Any

from sparsenet.export.dense import DenseGraph, Value, dense_equivalent
from sparsenet.nn import (
    BatchNorm,
    CosineLinear,
    Dropout,
    GlobalPool,
    InverseConv,
    LeakyReLU,
    Linear,
    Module,
    Residual,
    Sequential,
    SparseConv,
    SparseMaxPool,
    SparseNetwork,
    SubmanifoldConv,
    ToDense,
)
from sparsenet.sparse import Geometry

# ---- layers made of layers ----


@dense_equivalent(SparseNetwork)
def network(graph: DenseGraph, name: str, layer: SparseNetwork, x: Value) -> Value:
    for child_name, child in zip(layer.names(), layer.layers, strict=True):
        x = graph.inner(name, child_name, child, x)
    return x


@dense_equivalent(Sequential)
def sequential(graph: DenseGraph, name: str, layer: Sequential, x: Value) -> Value:
    for number, child in enumerate(layer.layers):
        x = graph.inner(name, str(number), child, x)
    return x


@dense_equivalent(Residual)
def residual(graph: DenseGraph, name: str, layer: Residual, x: Value) -> Value:
    y = sequential(graph, name, Sequential(*layer.layers), x)
    return graph.add(name, y, x if layer.shortcut is None else graph.inner(name, "shortcut", layer.shortcut, x))


# ---- filters ----

@dense_equivalent(SparseConv)
def convolution(graph: DenseGraph, name: str, layer: SparseConv, x: Value) -> Value:
    """Padding with a background that is not zero is an operation of its own."""
    settings, sample = filter_settings(layer.geometry), graph.run(name, layer, x)
    if any(layer.geometry.padding) and (x.background is None or x.background.any()):
        x = graph.pad(name, layer, x, layer.geometry.padding)
        settings["padding"] = (0,) * layer.geometry.dimension
    settings["groups"] = layer.in_channels // layer.weight.shape[1]
    arrays = {"weight": layer.weight, "bias": layer.bias}
    return graph.operation("convolution", name, layer, x, settings, arrays, sample)


@dense_equivalent(SparseMaxPool)
def max_pool(graph: DenseGraph, name: str, layer: SparseMaxPool, x: Value) -> Value:
    return graph.operation("max_pool", name, layer, x, filter_settings(layer.geometry))


def filter_settings(geometry: Geometry) -> dict[str, Any]:
    """The settings of an operation with a filter."""
    return {name: getattr(geometry, name) for name in ("size", "stride", "padding", "dilation")}


# ---- layers of single cells or rows ----

@dense_equivalent(LeakyReLU)
def leaky_relu(graph: DenseGraph, name: str, layer: LeakyReLU, x: Value) -> Value:
    return graph.operation("leaky_relu", name, layer, x, {"slope": layer.negative_slope})


@dense_equivalent(BatchNorm)
def batch_norm(graph: DenseGraph, name: str, layer: BatchNorm, x: Value) -> Value:
    arrays = {key: getattr(layer, key) for key in ("weight", "bias", "running_mean", "running_var")}
    return graph.operation("batch_norm", name, layer, x, {"eps": layer.eps, "momentum": layer.momentum}, arrays)


@dense_equivalent(Dropout)
@dense_equivalent(ToDense)
def unchanged(graph: DenseGraph, name: str, layer: Dropout | ToDense, x: Value) -> Value:
    return Value(x.name, graph.run(name, layer, x))


@dense_equivalent(GlobalPool)
def global_pool(graph: DenseGraph, name: str, layer: GlobalPool, x: Value) -> Value:
    return graph.operation("global_pool", name, layer, x, {"mode": layer.mode})


@dense_equivalent(Linear)
def linear(graph: DenseGraph, name: str, layer: Linear, x: Value) -> Value:
    _check_rows(graph, name, layer, x)
    return graph.operation("linear", name, layer, x, {}, {"weight": layer.weight, "bias": layer.bias})


@dense_equivalent(CosineLinear)
def cosine_linear(graph: DenseGraph, name: str, layer: CosineLinear, x: Value) -> Value:
    _check_rows(graph, name, layer, x)
    return graph.operation("cosine_linear", name, layer, x, {"scale": layer.scale}, {"weight": layer.weight})


def _check_rows(graph: DenseGraph, name: str, layer: Module, x: Value) -> None:
    if x.spatial_size:
        raise graph.refusal(name, layer, "is exported for rows (B, C), and stands on a grid here: put a GlobalPool "
                                         "before it, or use a SparseConv of one cell")


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
