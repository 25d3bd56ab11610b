"""Max-pooling over the neighbour table, with the background as a competitor.

    out[m, c]    = max over k of  features[neighbours[m, k], c]   (background[c] where it is -1)
    argmax[m, c] = the first offset k that attains it

The background is one row, or one row for each sample.  Without a background, inactive cells are passed over.  NaN wins, as in PyTorch.  Backward sends
each output's gradient to the cell that its argmax names; one block holds the outputs of one
sample and one slice of the channels, so no two blocks touch the same element and every sum is
taken in row order.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.table import Array, declare
from sparsenet.kernels.threads import run_blocks

_FLOATS = 1 << 16  # outputs (rows * channels) of a forward block
_CHANNELS = 32  # channels of a backward block: whole cache lines

FORWARD = declare(
    "max_pool_forward",
    features=Array("float", "N C"),
    background=Array("float", "G C", optional=True),
    neighbours=Array("int32", "M K"),
    output_coordinates=Array("int32", "M D1"),
)
BACKWARD = declare(
    "max_pool_backward",
    gradient=Array("float", "M C"),
    argmax=Array("int16", "M C"),
    neighbours=Array("int32", "M K"),
    batch_splits=Array("int64", "B1"),
    inputs="N, the number of input sites",
)


@FORWARD.implementation("cpu")
def _forward_cpu(features, background, neighbours, output_coordinates):
    """((M, C) values, (M, C) int16 argmax); background has 1 row or one for each sample.

    Raises
    ------
    ValueError : more than 32767 kernel offsets.
    """
    rows, offsets = neighbours.shape
    channels = features.shape[1]
    if offsets > np.iinfo(np.int16).max:
        raise ValueError(f"max_pool_forward: {offsets} kernel offsets, at most 32767: use a smaller window")
    out = np.empty((rows, channels), features.dtype)
    argmax = np.empty((rows, channels), np.int16)
    step = max(1, _FLOATS // max(channels, 1))
    skip = background is None
    ground = np.zeros((1, channels), features.dtype) if skip else background

    def block(index: int) -> None:
        chosen = slice(index * step, (index + 1) * step)
        _forward(features, ground, skip, neighbours[chosen], output_coordinates[chosen], out[chosen],
                 argmax[chosen])

    run_blocks(block, -(-rows // step))
    return out, argmax


@numba.njit(nogil=True, cache=True)
def _forward(features, background, skip_inactive, neighbours, coordinates, out, argmax):
    channels = features.shape[1]
    for m in range(neighbours.shape[0]):
        sample = coordinates[m, 0] if background.shape[0] > 1 else 0
        first = True  # nothing in the window yet
        ground = skip_inactive  # the background has had its turn
        for k in range(neighbours.shape[1]):
            n = neighbours[m, k]
            if n < 0:
                if ground:
                    continue
                ground = True
                row = background[sample]
            else:
                row = features[n]
            if first:
                first = False
                for c in range(channels):
                    out[m, c] = row[c]
                    argmax[m, c] = k
            else:
                for c in range(channels):
                    value = row[c]
                    if value > out[m, c] or value != value:
                        out[m, c] = value
                        argmax[m, c] = k


@BACKWARD.implementation("cpu")
def _backward_cpu(gradient, argmax, neighbours, batch_splits, inputs):
    """((N, C) gradient of the features, (B, C) gradient of the background in each sample)."""
    channels = gradient.shape[1]
    samples = batch_splits.size - 1
    slices = -(-channels // _CHANNELS)
    out = np.zeros((inputs, channels), gradient.dtype)
    ground = np.zeros((samples, channels), gradient.dtype)

    def block(index: int) -> None:
        sample, part = divmod(index, slices)
        start = part * _CHANNELS
        _backward(gradient, argmax, neighbours, batch_splits[sample], batch_splits[sample + 1],
                  start, min(start + _CHANNELS, channels), out, ground[sample])

    run_blocks(block, samples * slices)
    return out, ground


@numba.njit(nogil=True, cache=True)
def _backward(gradient, argmax, neighbours, first, last, start, stop, out, ground):
    for m in range(first, last):
        for c in range(start, stop):
            n = neighbours[m, argmax[m, c]]
            if n >= 0:
                out[n, c] += gradient[m, c]
            else:
                ground[c] += gradient[m, c]
