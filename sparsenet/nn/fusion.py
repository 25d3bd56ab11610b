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
from sparsenet.nn.activation_layers import LeakyReLU
from sparsenet.nn.layers import SparseConv, SparseMaxPool, SubmanifoldConv
from sparsenet.nn.module import Module, intercepted
from sparsenet.ops.convolution import convolution_leaky_relu
from sparsenet.ops.level import level
from sparsenet.sparse import SparseTensor


def run_layers(layers: Sequence[Module], x: Any) -> Any:
    """Apply the layers to x, one after another."""
    alone, place = intercepted() or thread_state.checks is not None, 0
    while place < len(layers):
        count = 1 if alone else _fused_at(layers, place, x)
        x = layers[place](x) if count == 1 else _run_fused(layers[place:place + count], x)
        place += count
    return x


def _fused_at(layers: Sequence[Module], place: int, x: Any) -> int:
    """The number of layers from `place` on that run as one operation."""
    kinds = [type(layer) for layer in layers[place:place + 3]]
    if len(kinds) < 2 or kinds[0] not in (SparseConv, SubmanifoldConv) or kinds[1] is not LeakyReLU:
        return 1
    if not isinstance(x, SparseTensor) or x.background is None or x.background.ndim != 1:
        return 1
    if not layers[place + 1].negative_slope > 0 or layers[place].groups > 1:
        return 1
    if x.device == "cpu":
        return 2 if thread_state.no_grad_depth and not layers[place].training else 1
    return 3 if kinds[2:] == [SparseMaxPool] else 2


def _run_fused(layers: Sequence[Module], x: SparseTensor) -> SparseTensor:
    convolution, activation = layers[:2]
    if x.device == "cpu":
        return convolution_leaky_relu(x, convolution.weight, convolution.bias, convolution.geometry,
                                      activation.negative_slope)
    pool = layers[2].geometry if len(layers) == 3 else None
    try:
        return level(x, convolution.weight, convolution.bias, convolution.geometry, activation.negative_slope, pool)
    except MemoryError as error:  # CuPy's says how many bytes were asked for
        error.add_note(f"in the layers {', '.join(map(repr, layers))}")
        raise
