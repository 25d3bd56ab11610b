"""Leaky ReLU on a GPU, by leaky_relu.cu."""

from __future__ import annotations

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import LEAKY_RELU_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import LEAKY_RELU_FORWARD as FORWARD
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of

SOURCE = CudaSource("activations/leaky_relu", variants=SCALARS.values())


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
def _backward_cuda(reference, gradient, slope, background, background_gradient):
    xp = array_module(gradient)
    out, extra, more = xp.empty_like(gradient), 0, None
    if background is not None:
        extra, more = background_gradient.size, xp.empty_like(background_gradient)
    kernel = SOURCE.kernel("leaky_relu_backward", **scalars_of(gradient))
    kernel(blocks_for(max(out.size, extra)), THREADS, reference, gradient, slope, out.size, out, background,
           background_gradient, extra, more)
    return out if background is None else (out, more)
