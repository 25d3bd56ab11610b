"""Softmax over the channels of each row, and its gradient.

    e[j] = exp(x[j] - max)       y[j] = e[j] / sum of e            no exponential overflows
    dx[j] = y[j] (gradient[j] - sum of y * gradient)               from y alone

float32: _GROUP rows take each step together, since in a single row each step would wait for the one before.  A row with
+infinity or NaN, or of -infinity alone, is NaN.
"""

from __future__ import annotations

import math

import numpy as np

from sparsenet.kernels.activations.contract import SOFTMAX_BACKWARD as BACKWARD
from sparsenet.kernels.activations.contract import SOFTMAX_FORWARD as FORWARD
from sparsenet.kernels.cpu.exponential_rows import ROW_WIDTH, exponentials, largest, prefetch_row, scale_row
from sparsenet.kernels.cpu.lanes import fma, load, load_some, store, store_some
from sparsenet.kernels.cpu.lanes_joined import total_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows

_BLOCK = 1 << 16  # numbers: whole rows, at least one
_GROUP = 16  # rows
_AHEAD = 32  # rows: how early they are prefetched


@FORWARD.implementation("cpu")
def _forward_cpu(x, background):
    """(N, C); with a background, (N, C) and (G, C)."""
    out = np.empty(x.shape, x.dtype)
    if out.size:
        channels, loop = x.shape[1], _forward if x.dtype == np.float32 else _forward_double
        run_rows(lambda start, stop: loop(x[start:stop].reshape(-1), channels, out[start:stop].reshape(-1)), len(x),
                 max(1, _BLOCK // channels))
    return out if background is None else (out, _forward_cpu(background, None))


@BACKWARD.implementation("cpu")
def _backward_cpu(y, gradient, background, background_gradient):
    """(N, C), from the softmax y; with that of the background and its gradient, (N, C) and (G, C)."""
    out = np.empty(y.shape, y.dtype)
    if out.size:
        channels, loop = y.shape[1], _backward if y.dtype == np.float32 else _backward_double
        run_rows(lambda start, stop: loop(y[start:stop].reshape(-1), gradient[start:stop].reshape(-1), channels,
                                          out[start:stop].reshape(-1)), len(y), max(1, _BLOCK // channels))
    return out if background is None else (out, _backward_cpu(background, background_gradient, None, None))


@compiled(error_model="numpy")
def _forward(x, channels, out):
    padded = -(-channels // ROW_WIDTH) * ROW_WIDTH
    tops, totals = np.empty((2, _GROUP), np.float32)
    terms = np.empty(min(_GROUP, x.size // channels) * padded, np.float32)
    for start in range(0, x.size, _GROUP * channels):
        rows = min(_GROUP, (x.size - start) // channels)
        for i in range(rows):
            tops[i] = largest(x, start + i * channels, channels)
        for i in range(rows):
            row = start + i * channels
            totals[i] = exponentials(x, row, channels, tops[i], terms, i * padded)
            prefetch_row(x, row + _AHEAD * channels, channels)
        for i in range(rows):
            scale_row(terms, i * padded, channels, np.float32(1) / totals[i], out, start + i * channels)


@compiled
def _backward(y, gradient, channels, out):
    nothing = y.dtype.type(0)
    rest = channels % ROW_WIDTH
    full = channels - rest
    for row in range(0, y.size, channels):
        end = row + full
        products = load_some(y, end, rest, nothing, ROW_WIDTH) * load_some(gradient, end, rest, nothing, ROW_WIDTH)
        for j in range(row, end, ROW_WIDTH):
            products = fma(load(y, j, ROW_WIDTH), load(gradient, j, ROW_WIDTH), products)
        mean = total_of(products)
        for j in range(row, end, ROW_WIDTH):
            store(out, j, load(y, j, ROW_WIDTH) * (load(gradient, j, ROW_WIDTH) - mean))
        if rest:
            difference = load_some(gradient, end, rest, nothing, ROW_WIDTH) - mean
            store_some(out, end, rest, load_some(y, end, rest, nothing, ROW_WIDTH) * difference)


@compiled(error_model="numpy")
def _forward_double(x, channels, out):
    for row in range(0, x.size, channels):
        top, total = x[row], 0.0
        for j in range(row, row + channels):
            top = x[j] if x[j] > top else top
        for j in range(row, row + channels):
            out[j] = math.exp(x[j] - top)
            total += out[j]
        for j in range(row, row + channels):
            out[j] /= total


@compiled
def _backward_double(y, gradient, channels, out):
    for row in range(0, y.size, channels):
        mean = 0.0
        for j in range(row, row + channels):
            mean += y[j] * gradient[j]
        for j in range(row, row + channels):
            out[j] = y[j] * (gradient[j] - mean)
