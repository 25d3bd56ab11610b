"""Leaky ReLU: y = x where x > 0, slope * x elsewhere; element by element, bound by memory."""

from __future__ import annotations

from sparsenet.kernels.contracts import LEAKY_RELU_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import LEAKY_RELU_FORWARD as FORWARD
from sparsenet.kernels.cpu import memory
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks

_BLOCK = 1 << 17  # elements: some 20 us, of which handing a block over takes two


@FORWARD.implementation("cpu")
def _forward_cpu(x, slope, background):
    """(N, C); with a background, of any shape, that and (G, D)."""
    out = memory.empty(x.shape, x.dtype)
    source, target, factor = x.reshape(-1), out.reshape(-1), x.dtype.type(slope)

    def block(index: int) -> None:
        chosen = slice(index * _BLOCK, (index + 1) * _BLOCK)
        _forward(source[chosen], factor, target[chosen])

    run_blocks(block, -(-x.size // _BLOCK))
    return out if background is None else (out, _forward_cpu(background, slope, None))


@BACKWARD.implementation("cpu")
def _backward_cpu(reference, gradient, slope, background, ground):
    """(N, C): the gradient, times slope where reference (the input; the output serves as well
    if slope >= 0) is not positive; with a background and its gradient `ground`, that and (G, D)."""
    out = memory.empty(gradient.shape, gradient.dtype)
    sign, source, target = reference.reshape(-1), gradient.reshape(-1), out.reshape(-1)
    factor = gradient.dtype.type(slope)

    def block(index: int) -> None:
        chosen = slice(index * _BLOCK, (index + 1) * _BLOCK)
        _backward(sign[chosen], source[chosen], factor, target[chosen])

    run_blocks(block, -(-gradient.size // _BLOCK))
    return out if background is None else (out, _backward_cpu(background, ground, slope, None, None))


@compiled
def _forward(x, slope, out):
    for i in range(x.size):
        value = x[i]
        out[i] = value if value > 0 else value * slope


@compiled
def _backward(reference, gradient, slope, out):
    for i in range(gradient.size):
        value = gradient[i]
        out[i] = value if reference[i] > 0 else value * slope
