"""Batch norm on a GPU, by batch_norm.cu: the last block to finish joins the chunks of rows."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import BATCH_NORM_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import BATCH_NORM_FORWARD as FORWARD
from sparsenet.kernels.contracts import BATCH_NORM_STATISTICS as STATISTICS
from sparsenet.kernels.cuda.source import MAX_BLOCKS, SCALARS, THREADS, CudaKernel, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.cuda.tickets import tickets

CUDA_CHUNK = 1024  # rows: a block's work
_GROUPS = (32, 8)  # channels x groups of rows
SOURCE = CudaSource("norm/batch_norm", variants=[{**scalars, "CHUNK": CUDA_CHUNK} for scalars in SCALARS.values()])


@STATISTICS.implementation("cuda")
def _statistics_cuda(features, background, batch_splits, cells, running_mean, running_variance, momentum):
    xp = array_module(features)
    moments = xp.empty((2, features.shape[1]), np.float64)
    given = _rows_of(features, background, batch_splits, cells)
    _reduce("batch_norm_statistics", features, *given, float(momentum), running_mean, running_variance, moments)
    return moments


@FORWARD.implementation("cuda")
def _forward_cuda(features, background, moments, weight, bias, eps):
    xp = array_module(features)
    out, more = xp.empty_like(features), None if background is None else xp.empty_like(background)
    (rows, channels), background_rows = features.shape, 0 if background is None else len(background)
    _kernel("batch_norm_forward", features)(
        blocks_for(max(rows, background_rows) * channels), THREADS, features, rows, background, background_rows,
        channels, moments, weight, bias, float(eps), out, more)
    return out if background is None else (out, more)


@BACKWARD.implementation("cuda")
def _backward_cuda(features, background, gradient, background_gradient, batch_splits, cells, moments, weight, eps,
                   of_batch):
    xp = array_module(features)
    sums = xp.empty((2, features.shape[1]), np.float64)
    given = _rows_of(features, background, batch_splits, cells)
    _reduce("batch_norm_sums", features, gradient, *given[:4], background_gradient, moments, float(eps), sums)
    out, more = xp.empty_like(features), None if background is None else xp.empty_like(background)
    blocks = blocks_for(max(len(features), given[2]) * features.shape[1])
    _kernel("batch_norm_backward", features)(blocks, THREADS, features, gradient, *given, background_gradient, moments,
                                             weight, float(eps), sums, of_batch, out, more)
    return out, more, sums


def _kernel(name: str, features) -> CudaKernel:
    return SOURCE.kernel(name, **scalars_of(features), CHUNK=CUDA_CHUNK)


def _rows_of(features, background, batch_splits, cells) -> tuple:
    """rows, background, its rows, channels, splits, samples, cells: arguments of all kernels but forward."""
    (rows, channels), background_rows = features.shape, 0 if background is None else len(background)
    samples = 0 if batch_splits is None else len(batch_splits) - 1
    return rows, background, background_rows, channels, batch_splits, samples, cells if background_rows else 0


def _reduce(name: str, features, *arguments) -> None:
    """Run a kernel that reduces the rows chunk by chunk, and joins the chunks."""
    xp, (rows, channels) = array_module(features), features.shape
    chunks, partial, arrived = max(1, -(-rows // CUDA_CHUNK)), None, None
    grid = min(chunks, MAX_BLOCKS), -(-channels // _GROUPS[0])
    if chunks > 1:
        partial, arrived = xp.empty((chunks, 2, channels), np.float64), tickets(xp, grid[1])
    _kernel(name, features)(grid, _GROUPS, features, *arguments, chunks, partial, arrived)
