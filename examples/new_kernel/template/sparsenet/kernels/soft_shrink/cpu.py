"""Soft shrinkage, element by element; limited by memory.

    x (N, C) row-major = size numbers in a row, size = N * C

    | block 0 | block 1 | ... |      131,072 numbers each, whatever the number of threads
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.soft_shrink.contract import SOFT_SHRINK_BACKWARD, SOFT_SHRINK_FORWARD

_BLOCK = 1 << 17  # numbers: some 20 us, of which two are spent on handing a block to a thread


@SOFT_SHRINK_FORWARD.implementation("cpu")
def _forward_cpu(x, limit):
    """(N, C)"""
    out = np.empty(x.shape, x.dtype)
    source, target, bound = x.reshape(-1), out.reshape(-1), x.dtype.type(limit)
    run_rows(lambda start, stop: _forward(source[start:stop], bound, target[start:stop]), x.size, _BLOCK)
    return out


@SOFT_SHRINK_BACKWARD.implementation("cpu")
def _backward_cpu(x, gradient, limit):
    """(N, C)"""
    out = np.empty(x.shape, x.dtype)
    source, upstream, target, bound = x.reshape(-1), gradient.reshape(-1), out.reshape(-1), x.dtype.type(limit)
    run_rows(lambda start, stop: _backward(source[start:stop], upstream[start:stop], bound, target[start:stop]), x.size,
             _BLOCK)
    return out


@compiled
def _forward(x, limit, out):
    for i in range(x.size):
        value = x[i]
        within = limit if value > limit else -limit if value < -limit else value
        out[i] = value - within  # NaN stays NaN


@compiled
def _backward(x, gradient, limit, out):
    for i in range(x.size):
        out[i] = gradient[i] if abs(x[i]) > limit else x.dtype.type(0)
