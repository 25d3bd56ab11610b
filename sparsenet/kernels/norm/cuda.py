"""Norms on a GPU: of a batch by batch_norm.cu, of samples by sample_norm.cu, of rows by row_norm.cu.

The last block to finish joins the chunks of rows.
"""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import MAX_BLOCKS, SCALARS, THREADS, CudaKernel, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.cuda.tickets import tickets
from sparsenet.kernels.norm.contract import BATCH_NORM_BACKWARD as BACKWARD
from sparsenet.kernels.norm.contract import BATCH_NORM_FORWARD as FORWARD
from sparsenet.kernels.norm.contract import BATCH_NORM_STATISTICS as STATISTICS
from sparsenet.kernels.norm.contract import (
    ROW_NORM_BACKWARD,
    ROW_NORM_FORWARD,
    SAMPLE_NORM_BACKWARD,
    SAMPLE_NORM_FORWARD,
)

CUDA_CHUNK = 1024  # rows: a block's work
_GROUPS = (32, 8)  # channels x groups of rows
_PARTS = 8  # of a chunk, by which blocks share its rows if they do not add them
_VARIANTS = [{**scalars, "CHUNK": CUDA_CHUNK} for scalars in SCALARS.values()]
SOURCE = CudaSource("norm/batch_norm", variants=_VARIANTS)
SAMPLE_SOURCE = CudaSource("norm/sample_norm", variants=_VARIANTS)
ROW_SOURCE = CudaSource("norm/row_norm", variants=_VARIANTS)


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


@SAMPLE_NORM_FORWARD.implementation("cuda")
def _sample_forward_cuda(features, background, batch_splits, cells, weight, bias, groups, eps):
    xp, (rows, channels), samples = array_module(features), features.shape, len(batch_splits) - 1
    slots, given = _slots(rows, samples), (background, 0 if background is None else len(background))
    moments = xp.empty((2, samples, groups), np.float64)
    sums = _sums_of_samples("sample_norm_distances", features, batch_splits, slots, ())
    _kernel("sample_norm_moments", features, SAMPLE_SOURCE)(
        blocks_for(32 * samples * groups), THREADS, sums, batch_splits, samples, channels, groups, *given, cells,
        moments)
    out = xp.empty_like(features)
    more = None if background is None else xp.empty((samples, channels), features.dtype)
    _kernel("sample_norm_forward", features, SAMPLE_SOURCE)(
        (min(slots, MAX_BLOCKS), _PARTS), THREADS, features, batch_splits, rows, samples, channels, slots, *given,
        moments, groups, weight, bias, float(eps), out, more)
    return out, more, moments


@SAMPLE_NORM_BACKWARD.implementation("cuda")
def _sample_backward_cuda(features, background, gradient, background_gradient, batch_splits, cells, moments, weight,
                          eps):
    xp, (rows, channels), (_, samples, groups) = array_module(features), features.shape, moments.shape
    slots, to_parameters = _slots(rows, samples), xp.empty((2, channels), np.float64)
    given = background, background_gradient, 0 if background is None else len(background), cells
    shares = xp.empty(moments.shape, np.float64)
    sums = _sums_of_samples("sample_norm_slopes", features, batch_splits, slots, (moments, groups), gradient)
    _kernel("sample_norm_shares", features, SAMPLE_SOURCE)(
        blocks_for(max(32 * samples * groups, channels)), THREADS, sums, batch_splits, samples, channels, groups,
        *given, moments, weight, float(eps), shares, to_parameters)
    out, more = xp.empty_like(features), None if background is None else xp.empty_like(background)
    _kernel("sample_norm_backward", features, SAMPLE_SOURCE)(
        (min(slots, MAX_BLOCKS), _PARTS), THREADS, features, gradient, batch_splits, rows, samples, channels, slots,
        *given, moments, shares, groups, weight, float(eps), out, more)
    return out, more, to_parameters


def _sums_of_samples(name: str, features, batch_splits, slots: int, moments: tuple, *gradient):
    """(B, 2, C): what a kernel adds up for each sample and channel."""
    xp, (rows, channels), samples = array_module(features), features.shape, len(batch_splits) - 1
    grid, partial, arrived = (min(slots, MAX_BLOCKS), -(-channels // _GROUPS[0])), None, None
    if slots > samples:  # only then a sample may have two chunks
        partial, arrived = xp.empty((slots, 2, channels), np.float64), tickets(xp, samples * grid[1])
    sums = xp.empty((samples, 2, channels), np.float64)
    _kernel(name, features, SAMPLE_SOURCE)(grid, _GROUPS, features, *gradient, batch_splits, rows, samples, channels,
                                           *moments, slots, partial, arrived, sums)
    return sums


def _slots(rows: int, samples: int) -> int:
    """Places for chunks: enough for all chunks of all samples (see segments.cuh)."""
    return rows // CUDA_CHUNK + samples


@ROW_NORM_FORWARD.implementation("cuda")
def _row_forward_cuda(features, weight, bias, groups, eps, with_moments):
    xp, (rows, channels) = array_module(features), features.shape
    out, moments = xp.empty_like(features), xp.empty((2, groups, rows), np.float64) if with_moments else None
    lanes = _lanes(channels // groups)
    _kernel("row_norm_forward", features, ROW_SOURCE)(
        blocks_for(lanes * rows * groups), THREADS, features, rows, channels, groups, weight, bias, float(eps), lanes,
        out, moments)
    return out, moments


@ROW_NORM_BACKWARD.implementation("cuda")
def _row_backward_cuda(features, gradient, moments, weight):
    xp, (rows, channels), groups = array_module(features), features.shape, moments.shape[1]
    out, lanes, sums = xp.empty_like(features), _lanes(channels // groups), xp.empty((2, channels), np.float64)
    _kernel("row_norm_backward", features, ROW_SOURCE)(
        blocks_for(lanes * rows * groups), THREADS, features, gradient, rows, channels, groups, moments, weight, lanes,
        out)
    chunks, grid, partial, arrived = _chunks(features)
    _kernel("row_norm_sums", features, ROW_SOURCE)(grid, _GROUPS, features, gradient, rows, channels, groups, moments,
                                                   chunks, partial, arrived, sums)
    return out, sums


def _lanes(width: int) -> int:
    """Threads side by side for a group of so many channels: a power of two, at most a warp."""
    return min(32, 1 << (width - 1).bit_length())


def _kernel(name: str, features, source: CudaSource = SOURCE) -> CudaKernel:
    return source.kernel(name, **scalars_of(features), CHUNK=CUDA_CHUNK)


def _rows_of(features, background, batch_splits, cells) -> tuple:
    """rows, background, its rows, channels, splits, samples, cells: arguments of all kernels but forward."""
    (rows, channels), background_rows = features.shape, 0 if background is None else len(background)
    samples = 0 if batch_splits is None else len(batch_splits) - 1
    return rows, background, background_rows, channels, batch_splits, samples, cells if background_rows else 0


def _reduce(name: str, features, *arguments) -> None:
    """Run a kernel that reduces the rows chunk by chunk, and joins the chunks."""
    chunks, grid, partial, arrived = _chunks(features)
    _kernel(name, features)(grid, _GROUPS, features, *arguments, chunks, partial, arrived)


def _chunks(features) -> tuple:
    """The number of chunks of rows, the grid that reduces them, and what blocks leave for the last one."""
    xp, (rows, channels) = array_module(features), features.shape
    chunks, partial, arrived = max(1, -(-rows // CUDA_CHUNK)), None, None
    grid = min(chunks, MAX_BLOCKS), -(-channels // _GROUPS[0])
    if chunks > 1:
        partial, arrived = xp.empty((chunks, 2, channels), np.float64), tickets(xp, grid[1])
    return chunks, grid, partial, arrived
