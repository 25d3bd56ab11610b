"""Leaky ReLU: y = x where x > 0, slope * x elsewhere; element by element, bound by memory."""

from __future__ import annotations

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import LEAKY_RELU_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import LEAKY_RELU_FORWARD as FORWARD
from sparsenet.kernels.cpu import memory
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of

_BLOCK = 1 << 17  # elements: some 20 us, of which handing a block over takes two
SOURCE = CudaSource("activations/leaky_relu")
VARIANTS = [(name, scalars) for name in ("leaky_relu_forward", "leaky_relu_backward")
            for scalars in SCALARS.values()]


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


@FORWARD.implementation("cuda")
def _forward_cuda(x, slope, background):
    xp = array_module(x)
    out, extra, more = xp.empty_like(x), 0, None
    if background is not None:
        extra, more = background.size, xp.empty_like(background)
    kernel = SOURCE.kernel("leaky_relu_forward", **scalars_of(x))
    kernel(blocks_for(max(x.size, extra)), THREADS, x, slope, x.size, out, background, extra, more)
    return out if background is None else (out, more)


@BACKWARD.implementation("cuda")
def _backward_cuda(reference, gradient, slope, background, ground):
    xp = array_module(gradient)
    out, extra, more = xp.empty_like(gradient), 0, None
    if background is not None:
        extra, more = ground.size, xp.empty_like(ground)
    kernel = SOURCE.kernel("leaky_relu_backward", **scalars_of(gradient))
    kernel(blocks_for(max(out.size, extra)), THREADS, reference, gradient, slope, out.size, out, background, ground,
           extra, more)
    return out if background is None else (out, more)


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
