"""Fusion of consecutive layers into one operation.

    on a GPU   a convolution, a leaky ReLU and a max-pooling are a level; results differ from those of the separate
               layers only by rounding
    on a CPU   in evaluation without a graph, a convolution and a leaky ReLU; results have the same bits

Within `intercepting` (tracing, activations) and `detect_anomaly`, layers run one by one, so that each output exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsenet.autograd import thread_state
from sparsenet.nn.layers import SparseConv, SparseMaxPool, SubmanifoldConv
from sparsenet.nn.leaky_relu import LeakyReLU
from sparsenet.nn.module import Module, intercepted
from sparsenet.ops.convolution import convolution_leaky_relu
from sparsenet.ops.level import level, level_rows
from sparsenet.sparse import SparseTensor


def run_layers(layers: Sequence[Module], x: Any) -> Any:
    """Apply the layers to x, one after another."""
    place = 0
    while place < len(layers):
        levels = _levels_at(layers, place, x)
        x = _run_levels(levels, x) if levels else layers[place](x)
        place += sum(map(len, levels)) or 1
    return x


def _levels_at(layers: Sequence[Module], place: int, x: Any) -> list[Sequence[Module]]:
    """From `place` on, groups of layers of which each runs as one operation; empty if the next layer runs alone."""
    if intercepted() or thread_state.checks is not None or not isinstance(x, SparseTensor):
        return []
    on_cpu, levels = x.device == "cpu", []
    if x.background is None or x.background.ndim != 1 or (on_cpu and not thread_state.no_grad_depth):
        return []
    while length := _level_length(layers[place:place + 3], on_cpu):
        levels.append(layers[place:place + length])
        place += length
    return levels


def _level_length(layers: Sequence[Module], on_cpu: bool) -> int:
    """How many of the layers run as one operation; 0 if the first runs alone."""
    kinds = [type(layer) for layer in layers]
    if len(kinds) < 2 or kinds[0] not in (SparseConv, SubmanifoldConv) or kinds[1] is not LeakyReLU:
        return 0
    if not layers[1].negative_slope > 0 or layers[0].groups > 1:
        return 0
    if on_cpu:
        return 0 if layers[0].training else 2
    return 3 if kinds[2:] == [SparseMaxPool] else 2


def _run_levels(levels: Sequence[Sequence[Module]], x: SparseTensor) -> SparseTensor:
    listed = [(convolution.weight, convolution.bias, convolution.geometry, activation.negative_slope)
              for convolution, activation, *_ in levels]
    if x.device == "cpu":
        for given in listed:
            x = convolution_leaky_relu(x, *given)
        return x
    for layers, given, rows in zip(levels, listed, level_rows(x, listed), strict=True):
        try:
            x = level(x, *given, layers[2].geometry if len(layers) == 3 else None, rows)
        except MemoryError as error:  # CuPy's says how many bytes were asked for
            error.add_note(f"in the layers {', '.join(map(repr, layers))}")
            raise
    return x
