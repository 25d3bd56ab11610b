"""Pooling on a GPU, by max_pool.cu and sum_pool.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import array_module, wide_dtype
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.pooling.contract import MAX_POOL_BACKWARD as BACKWARD
from sparsenet.kernels.pooling.contract import MAX_POOL_FORWARD as FORWARD
from sparsenet.kernels.pooling.contract import SUM_POOL_BACKWARD as SUM_BACKWARD
from sparsenet.kernels.pooling.contract import SUM_POOL_FORWARD as SUM_FORWARD
from sparsenet.kernels.table import launch

_RUN = 64  # rows that a thread sums for the background
SOURCE = CudaSource("pooling/max_pool", variants=SCALARS.values())
SUM_SOURCE = CudaSource("pooling/sum_pool", variants=SCALARS.values())


@FORWARD.implementation("cuda")
def _forward_cuda(features, background, windows, output_coordinates, relative):
    xp = array_module(features)
    (rows, offsets), channels = windows.shape, features.shape[1]
    out, argmax = xp.empty((rows, channels), features.dtype), xp.empty((rows, channels), np.int16)
    tile = _tile(channels)
    kernel = SOURCE.kernel("max_pool_forward", **scalars_of(features))
    kernel(blocks_for(rows, tile), THREADS, features, background, 0 if background is None else background.shape[0],
           windows, output_coordinates, output_coordinates.shape[1], rows, offsets, channels, tile, bool(relative),
           out, argmax)
    return out, argmax


def _tile(channels: int) -> int:
    """Rows that a block takes at a time: about four elements for each of its threads."""
    return max(1, 4 * THREADS // max(channels, 1))


@BACKWARD.implementation("cuda")
def _backward_cuda(gradient, argmax, rulebook, batch_splits):
    xp = array_module(gradient)
    (inputs, rows, offsets), channels, scalars = rulebook.shape, gradient.shape[1], scalars_of(gradient)
    out = xp.empty((inputs, channels), gradient.dtype)
    tile = _tile(channels)
    kernel = SOURCE.kernel("max_pool_backward", **scalars)
    kernel(blocks_for(inputs, tile), THREADS, gradient, argmax, rulebook.transposed_neighbours, inputs, offsets,
           channels, tile, out)
    partial, samples, slots = _runs(gradient, batch_splits)
    kernel = SOURCE.kernel("max_pool_background", **scalars)
    kernel(_run_blocks(gradient), THREADS, gradient, argmax, rulebook.neighbours, batch_splits, samples, rows,
           offsets, channels, _RUN, partial)
    return out, _joined(partial, slots, gradient)


@SUM_FORWARD.implementation("cuda")
def _sum_forward_cuda(features, background, windows, output_coordinates, mean):
    (rows, offsets), channels = windows.shape, features.shape[1]
    out = array_module(features).empty((rows, channels), features.dtype)
    tile = _tile(channels)
    SUM_SOURCE.kernel("sum_pool_forward", **scalars_of(features))(
        blocks_for(rows, tile), THREADS, features, background, 0 if background is None else background.shape[0],
        windows, output_coordinates, output_coordinates.shape[1], rows, offsets, channels, tile, mean, out)
    return out


@SUM_BACKWARD.implementation("cuda")
def _sum_backward_cuda(gradient, rulebook, batch_splits, mean, with_background, to_background):
    xp = array_module(gradient)
    (inputs, rows, offsets), channels, scalars = rulebook.shape, gradient.shape[1], scalars_of(gradient)
    shares, background_shares = xp.empty((2, rows), wide_dtype(gradient.dtype))
    SUM_SOURCE.kernel("sum_pool_shares", **scalars)(blocks_for(rows), THREADS, rulebook.windows, rows, offsets, mean,
                                                    with_background, shares, background_shares)
    out = xp.empty((inputs, channels), gradient.dtype)
    tile = _tile(channels)
    SUM_SOURCE.kernel("sum_pool_backward", **scalars)(
        blocks_for(inputs, tile), THREADS, gradient, shares, rulebook.transposed_neighbours, inputs, offsets, channels,
        tile, out)
    if not to_background:
        return out, None
    partial, samples, slots = _runs(gradient, batch_splits)
    SUM_SOURCE.kernel("sum_pool_background", **scalars)(
        _run_blocks(gradient), THREADS, gradient, background_shares, batch_splits, samples, rows, channels, _RUN,
        partial)
    return out, _joined(partial, slots, gradient)


# ---- sums over the rows of each sample, by runs.cuh ----


def _run_blocks(gradient: Any) -> int:
    rows, channels = gradient.shape
    return blocks_for(-(-rows // _RUN) * channels)


def _runs(gradient: Any, batch_splits: Any) -> tuple[Any, int, Any]:
    """Room for the sums of the runs (slots, C), the number of samples, and the splits of their slots (B+1,), None if
    all rows count as one sample."""
    xp, (rows, channels), wide = array_module(gradient), gradient.shape, wide_dtype(gradient.dtype)
    if batch_splits is None:  # a run in each slot
        return xp.empty((-(-rows // _RUN), channels), wide), 1, None
    samples = batch_splits.size - 1  # run i of sample b has slot i + b: the slots of b begin at its first run + b
    return xp.zeros((rows // _RUN + samples, channels), wide), samples, batch_splits // _RUN + xp.arange(samples + 1)


def _joined(partial: Any, slots: Any, gradient: Any) -> Any:
    return launch("segment_sum", partial, slots, backend="cuda").astype(gradient.dtype, copy=False)


@FORWARD.reads("cuda")
@SUM_FORWARD.reads("cuda")
def _forward_reads(rulebook):
    return ("windows",)


@BACKWARD.reads("cuda")
def _backward_reads(rulebook):
    return ("neighbours", "transposed_neighbours")


@SUM_BACKWARD.reads("cuda")
def _sum_backward_reads(rulebook):
    return ("windows", "transposed_neighbours")
