"""Sparse convolution on a CPU over neighbours.

    out[m] = sum_k  W[k]^T features[neighbours[m, k]]  + constant          (rows of -1 add nothing)

       neighbours (rows, K)        buffer (rows, K * C_in)           out (rows, C_out)
       [ 4 -1  7 ...]      ->      [x4 | 0 | x7 | ...]     x  W  ->   [.......]

A block of output rows is gathered whole, with zeros for inactive cells, and multiplied by the
(K * C_in, C_out) weights at once: deep products run near the machine's matrix rate.

The weight gradient multiplies the same buffers by the output's gradient and adds up partial
sums over a fixed partition of the rows.  Block borders depend on sizes only, BLAS runs on one
thread inside a block: results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu import blas
from sparsenet.kernels.cpu.blas import Matrix, multiply
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.scratch import scratch
from sparsenet.kernels.cpu.threads import run_blocks, run_rows, single_threaded_blas

_BUFFER_BYTES = 1 << 19  # gathered buffer of a block: stays in a core's L2 cache
_MIN_BLOCKS = 8  # threads that can take part in a small layer
_PARTIALS = 8  # partial weight gradients, and so threads that can help with one


def forward(features, weights, neighbours, constant):
    """(M, C_out): the sum over the offsets, plus the constant row (C_out,) unless it is None."""
    (offsets, c_in, c_out), rows = weights.shape, len(neighbours)
    out = np.empty((rows, c_out), features.dtype)
    if not out.size:
        return out
    base = np.zeros(c_out, features.dtype) if constant is None else constant
    if not len(features) or not c_in:
        out[...] = base
        return out
    step, width = _rows_of_block(rows, offsets * c_in * out.itemsize), offsets * c_in
    loop, added = blas.product_loop(out.dtype), base[: 0 if constant is None else c_out]

    def block(start: int, stop: int) -> None:
        buffer = scratch("gathered", step * width, out.dtype)[0].reshape(step, width)
        _multiply_rows(loop, features, weights, neighbours, start, stop, added, buffer, out)

    with single_threaded_blas():
        run_rows(block, rows, step)
    return out


def weight_gradient(features, gradient, neighbours):
    """(K, C_in, C_out): the sum over m of features[neighbours[m, k]]^T gradient[m]."""
    (rows, offsets), c_in, c_out = neighbours.shape, features.shape[1], gradient.shape[1]
    if not rows or not len(features):
        return np.zeros((offsets, c_in, c_out), features.dtype)
    step, width = _rows_of_block(rows, offsets * c_in * features.itemsize), offsets * c_in
    blocks = -(-rows // step)
    partials = min(_PARTIALS, blocks)
    sums = np.empty((partials, width, c_out), features.dtype)
    loop = blas.product_loop(features.dtype)

    def partial(index: int) -> None:
        buffer = scratch("gathered", step * width, features.dtype)[0].reshape(step, width)
        product = scratch("products", width * c_out, features.dtype)[0].reshape(width, c_out)
        first, last = (rows if b == blocks else b * step
                       for b in (index * blocks // partials, (index + 1) * blocks // partials))
        _sum_outer_products(loop, features, gradient, neighbours, first, last, buffer, product, sums[index])

    with single_threaded_blas():
        run_blocks(partial, partials)
    for other in sums[1:]:
        sums[0] += other
    total = sums[0].reshape(offsets, c_in, c_out)
    return total.copy() if partials > 1 else total


def _rows_of_block(rows: int, row_bytes: int) -> int:
    """Rows of a block, a multiple of 16: as many as the buffer takes, fewer if the rows are few."""
    limit = min(max(_BUFFER_BYTES // max(row_bytes, 1), 64), 8192)
    return -(-min(limit, max(64, -(-rows // _MIN_BLOCKS))) // 16) * 16


@compiled
def _gather(features, neighbours, start, stop, buffer):
    """Row m - start of `buffer`: the rows of `features` that row m of `neighbours` names, side by side."""
    channels = features.shape[1]
    for m in range(start, stop):
        for k in range(neighbours.shape[1]):
            n = neighbours[m, k]
            if n < 0:
                for c in range(channels):
                    buffer[m - start, k * channels + c] = 0
            else:
                for c in range(channels):
                    buffer[m - start, k * channels + c] = features[n, c]


@compiled
def _multiply_rows(loop, features, weights, neighbours, first, last, constant, buffer, out):
    """The output rows `first` to `last` - 1.

    loop : from `blas.product_loop`
    constant : (C_out,), or (0,) if there is none
    buffer : (rows of a block, K * C_in), gets the gathered rows
    """
    width, columns, size = buffer.shape[1], out.shape[1], out.itemsize
    _gather(features, neighbours, first, last, buffer)
    out_at = np.int64(out.ctypes.data) + first * columns * size
    multiply(loop, Matrix(np.int64(buffer.ctypes.data), width * size, size),
             Matrix(np.int64(weights.ctypes.data), columns * size, size), Matrix(out_at, columns * size, size),
             (last - first, width, columns))
    if constant.size:
        for m in range(first, last):
            for c in range(columns):
                out[m, c] += constant[c]


@compiled
def _sum_outer_products(loop, features, gradient, neighbours, first, last, buffer, product, total):
    """total (K * C_in, C_out) = the sum over the output rows `first` to `last` - 1 of their gathered rows^T gradient.

    buffer : (rows of a block, K * C_in), gets the gathered rows;  product : as `total`, gets one block's
    """
    width, columns, size = buffer.shape[1], total.shape[1], total.itemsize
    gradient_at, target = np.int64(gradient.ctypes.data), np.int64(total.ctypes.data)
    start = first
    while start < last:
        stop = min(start + buffer.shape[0], last)
        _gather(features, neighbours, start, stop, buffer)
        multiply(loop, Matrix(np.int64(buffer.ctypes.data), size, width * size),
                 Matrix(gradient_at + start * columns * size, columns * size, size),
                 Matrix(target, columns * size, size), (width, stop - start, columns))
        if start > first:
            for i in range(width):
                for c in range(columns):
                    total[i, c] += product[i, c]
        start, target = stop, np.int64(product.ctypes.data)  # the first product is the total so far
