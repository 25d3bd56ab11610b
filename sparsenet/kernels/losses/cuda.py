"""Losses on a GPU: softmax_cross_entropy.cu, triplet_loss.cu, and the second pass of the sum in losses.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import THREADS, CudaKernel, CudaSource, blocks_for, ctype
from sparsenet.kernels.losses.contract import SCALE_GRADIENT, SOFTMAX_CROSS_ENTROPY, TRIPLET_LOSS

ROWS_OF_ONE_BLOCK = 256  # up to so many rows a single block takes all: one launch, else two
_SINGLE = 512  # threads of the single block
_WARPS = THREADS // 32  # rows that a block computes at a time, else
_MAX_BLOCKS = 2048  # more than a GPU runs at a time
_VARIANTS = [{"SCALAR": "float"}, {"SCALAR": "double"}]
SOURCE = CudaSource("losses/losses", variants=_VARIANTS)
SOFTMAX = CudaSource("losses/softmax_cross_entropy", variants=_VARIANTS)
TRIPLET = CudaSource("losses/triplet_loss", variants=_VARIANTS)


@SCALE_GRADIENT.implementation("cuda")
def _scale_cuda(gradient, factor):
    kernel = SOURCE.kernel("scale_gradient", SCALAR=ctype(gradient))
    kernel(blocks_for(gradient.size), THREADS, factor, gradient.size, gradient)


def mean_on_gpu(kernel: CudaKernel, rows: int, *arguments: Any) -> tuple[Any, Any]:
    """The loss () and its figures (2,) float64 by a kernel whose parameters are these arguments, then `sums`, `loss`
    and `figures`; the first argument is an array of the loss's dtype."""
    xp, dtype = array_module(arguments[0]), arguments[0].dtype
    if not rows:
        return xp.zeros((), dtype), xp.zeros(2, np.float64)
    loss, figures = xp.empty((), dtype), xp.empty(2, np.float64)
    if rows <= ROWS_OF_ONE_BLOCK:
        kernel(1, _SINGLE, *arguments, None, loss, figures)
        return loss, figures
    sums = xp.empty((min(-(-rows // _WARPS), _MAX_BLOCKS), 2), np.float64)
    kernel(len(sums), THREADS, *arguments, sums, None, None)
    SOURCE.kernel("join_losses", SCALAR=ctype(loss))(1, THREADS, sums, len(sums), rows, loss, figures)
    return loss, figures


@SOFTMAX_CROSS_ENTROPY.implementation("cuda")
def _softmax_cross_entropy_cuda(logits, labels, with_gradient):
    gradient = array_module(logits).empty_like(logits) if with_gradient else None
    kernel = SOFTMAX.kernel("softmax_cross_entropy", SCALAR=ctype(logits))
    return *mean_on_gpu(kernel, len(logits), logits, labels, *logits.shape, gradient), gradient


@TRIPLET_LOSS.implementation("cuda")
def _triplet_loss_cuda(anchor, positive, negative, margin, distance, with_gradient):
    gradient = array_module(anchor).empty((3, *anchor.shape), anchor.dtype) if with_gradient else None
    kernel = TRIPLET.kernel("triplet_loss", SCALAR=ctype(anchor))
    return *mean_on_gpu(kernel, len(anchor), anchor, positive, negative, *anchor.shape, margin, distance,
                        gradient), gradient
