"""Activations on a GPU: leaky_relu.cu, exponentials.cu, prelu.cu, softmax.cu; features and background in one launch."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.activations.contract import (
    ACTIVATION_BACKWARD,
    ACTIVATION_FORWARD,
    LEAKY_RELU_BACKWARD,
    LEAKY_RELU_FORWARD,
    PRELU_BACKWARD,
    PRELU_FORWARD,
    SOFTMAX_BACKWARD,
    SOFTMAX_FORWARD,
)
from sparsenet.kernels.cuda.source import MAX_BLOCKS, SCALARS, THREADS, CudaKernel, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.cuda.tickets import tickets

CUDA_CHUNK = 1024  # rows of PReLU's backward pass: a block's work
_GROUPS = (32, 8)  # channels x groups of rows
SOURCE = CudaSource("activations/leaky_relu", variants=SCALARS.values())
EXPONENTIALS = CudaSource("activations/exponentials", variants=SCALARS.values())
SOFTMAX = CudaSource("activations/softmax", variants=SCALARS.values())
PRELU = CudaSource("activations/prelu", variants=[{**scalars, "CHUNK": CUDA_CHUNK} for scalars in SCALARS.values()])


@LEAKY_RELU_FORWARD.implementation("cuda")
def _leaky_relu_forward_cuda(x, slope, background):
    return _mapped(_kernel(SOURCE, "leaky_relu_forward", x), (x,), (slope,), (background,))


@LEAKY_RELU_BACKWARD.implementation("cuda")
def _leaky_relu_backward_cuda(reference, gradient, slope, background, background_gradient):
    return _mapped(_kernel(SOURCE, "leaky_relu_backward", gradient), (reference, gradient), (slope,),
                   (background, background_gradient))


@ACTIVATION_FORWARD.implementation("cuda")
def _activation_forward_cuda(x, kind, alpha, background):
    return _mapped(_kernel(EXPONENTIALS, "activation_forward", x), (x,), (kind, alpha), (background,))


@ACTIVATION_BACKWARD.implementation("cuda")
def _activation_backward_cuda(kept, gradient, kind, alpha, background, background_gradient):
    return _mapped(_kernel(EXPONENTIALS, "activation_backward", gradient), (kept, gradient), (kind, alpha),
                   (background, background_gradient))


@SOFTMAX_FORWARD.implementation("cuda")
def _softmax_forward_cuda(x, background):
    lanes = _lanes(x)
    return _mapped(_kernel(SOFTMAX, "softmax_forward", x), (x,), (x.shape[1], lanes), (background,), lanes)


@SOFTMAX_BACKWARD.implementation("cuda")
def _softmax_backward_cuda(y, gradient, background, background_gradient):
    lanes = _lanes(y)
    return _mapped(_kernel(SOFTMAX, "softmax_backward", y), (y, gradient), (y.shape[1], lanes),
                   (background, background_gradient), lanes)


@PRELU_FORWARD.implementation("cuda")
def _prelu_forward_cuda(x, slope, background):
    return _mapped(_kernel(PRELU, "prelu_forward", x, CHUNK=CUDA_CHUNK), (x,), (slope, len(slope)), (background,))


@PRELU_BACKWARD.implementation("cuda")
def _prelu_backward_cuda(x, gradient, slope, background, background_gradient):
    xp, slopes, extra, more = array_module(x), len(slope), 0, None
    out, by_slope = xp.empty_like(x), xp.empty_like(slope)
    if background is not None:
        extra, more = background.size, xp.empty_like(background)
    columns = _GROUPS[0] if slopes == 1 else slopes
    of_x, below = (-(-size // (CUDA_CHUNK * max(1, columns))) for size in (max(1, x.size), extra))
    grid, partial, arrived = (min(of_x + below, MAX_BLOCKS), -(-columns // _GROUPS[0])), None, None
    if of_x + below > 1:
        partial, arrived = xp.empty((of_x + below, columns), np.float64), tickets(xp, grid[1])
    _kernel(PRELU, "prelu_backward", x, CHUNK=CUDA_CHUNK)(
        grid, _GROUPS, x, gradient, x.size, background, background_gradient, extra, slope, slopes, columns, out, more,
        by_slope, of_x + below, of_x, partial, arrived)
    return out, more, by_slope


def _kernel(source: CudaSource, name: str, like, **macros: int) -> CudaKernel:
    return source.kernel(name, **scalars_of(like), **macros)


def _mapped(kernel: CudaKernel, given: tuple, settings: tuple, below: tuple, lanes: int = 0):
    """Arrays like the last of `given` and, unless it is None, the last of `below`, of the background, by one launch.

    lanes : how many threads share a row; 0: one thread for each number
    """
    xp, sizes, out = array_module(given[-1]), [], []
    for array in (given[-1], below[-1]):
        sizes.append(0 if array is None or not array.size else len(array) if lanes else array.size)
        out.append(None if array is None else xp.empty_like(array))
    kernel(blocks_for(max(sizes) * max(1, lanes)), THREADS, *given, *settings, sizes[0], out[0], *below, sizes[1],
           out[1])
    return out[0] if out[1] is None else tuple(out)


def _lanes(x) -> int:
    """How many threads share a row: the smallest power of two that is not below C, at most a warp's 32."""
    return min(32, 1 << max(0, x.shape[1] - 1).bit_length())
