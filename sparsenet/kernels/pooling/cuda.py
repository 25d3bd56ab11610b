"""Max-pooling on a GPU, by max_pool.cu."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module, wide_dtype
from sparsenet.kernels.contracts import MAX_POOL_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import MAX_POOL_FORWARD as FORWARD
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.table import launch

_RUN = 64  # rows that a thread sums for the background
SOURCE = CudaSource("pooling/max_pool", variants=SCALARS.values())


@FORWARD.implementation("cuda")
def _forward_cuda(features, background, neighbours, output_coordinates, relative):
    xp = array_module(features)
    (rows, offsets), channels = neighbours.shape, features.shape[1]
    out, argmax = xp.empty((rows, channels), features.dtype), xp.empty((rows, channels), np.int16)
    tile = _tile(channels)
    kernel = SOURCE.kernel("max_pool_forward", **scalars_of(features))
    kernel(blocks_for(rows, tile), THREADS, features, background, 0 if background is None else background.shape[0],
           neighbours, output_coordinates, output_coordinates.shape[1], rows, offsets, channels, tile, bool(relative),
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
    # Run i of sample b has slot i + b, so sample b's slots begin at its first run + b; see max_pool.cu.
    runs, wide = -(-rows // _RUN), wide_dtype(gradient.dtype)
    if batch_splits is None:  # a run in each slot
        samples, partial, slots = 1, xp.empty((runs, channels), wide), None
    else:
        samples = batch_splits.size - 1
        partial = xp.zeros((rows // _RUN + samples, channels), wide)
        slots = batch_splits // _RUN + xp.arange(samples + 1)
    kernel = SOURCE.kernel("max_pool_background", **scalars)
    kernel(blocks_for(runs * channels), THREADS, gradient, argmax, rulebook.neighbours, batch_splits, samples, rows,
           offsets, channels, _RUN, partial)
    return out, launch("segment_sum", partial, slots, backend="cuda").astype(gradient.dtype, copy=False)


@FORWARD.reads("cuda")
def _forward_reads(rulebook):
    return ("neighbours",)


@BACKWARD.reads("cuda")
def _backward_reads(rulebook):
    return ("neighbours", "transposed_neighbours")
