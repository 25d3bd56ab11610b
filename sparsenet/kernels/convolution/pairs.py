"""Sparse convolution on a CPU over pairs: an offset that joins no sites costs nothing.

    out[m] = constant + sum over the pairs (n, m) of each offset k of  features[n] W[k]

              pairs of offset k         gathered         products
    block       [n0, m0]          ->    [ x[n0] ]   ->   [ x[n0] W[k] ]   ->   added to row m0 of out
    of rows     [n1, m1]          ->    [ x[n1] ]   x    [ x[n1] W[k] ]   ->   added to row m1
    of out      [n2, m2]          ->    [ x[n2] ]  W[k]  [ x[n2] W[k] ]   ->   added to row m2

A block is a run of output rows.  Within an offset both columns of the pairs rise, so the block's share of
an offset is one run of its pairs, found by binary search; it is taken some 256 pairs at a time, which
keeps both buffers in the first caches.  Rows that lie next to each other already are multiplied where they
are.  The input gradient is the same walk with the columns swapped and W[k] transposed, so it needs no other
index.  The weight gradient multiplies both gathered sides, offset by offset, in runs of a fixed size whose
sums are added in order.

Every output row takes its terms in the order of the offsets, and runs end at borders that sizes alone
decide: results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu import blas
from sparsenet.kernels.cpu.blas import Matrix, multiply
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.scratch import scratch
from sparsenet.kernels.cpu.search import lower_bound
from sparsenet.kernels.cpu.threads import run_blocks, run_rows, single_threaded_blas

_RUN = 256  # pairs of a product: enough for BLAS, few enough that both buffers stay in the first caches
_TARGET_BYTES = 1 << 20  # rows of a block that are added to, once for each offset: half of a core's L2 cache
_MIN_BLOCKS = 8  # of rows, and of the weight gradient's runs: threads that can take part in a small layer
_MIN_PAIRS = 2048  # of a run of the weight gradient


def forward(features, weights, pairs, pair_splits, outputs, constant):
    """(M, C_out): the sum over the pairs, plus the constant row (C_out,) unless it is None.

    outputs : M
    """
    out = np.empty((outputs, weights.shape[2]), features.dtype)
    base = np.zeros(weights.shape[2], features.dtype) if constant is None else constant
    _sum_products(features, weights, pairs, pair_splits, 1, base, False, out)
    return out


def input_gradient(gradient, weights, pairs, pair_splits, inputs, non_overlapping):
    """(N, C_in): the sum over the pairs of each offset of gradient[m] W[k]^T.

    inputs : N
    non_overlapping : no input row is in two pairs, so nothing has to be added up
    """
    out = np.empty((inputs, weights.shape[1]), gradient.dtype)
    zero = np.zeros(weights.shape[1], gradient.dtype)
    _sum_products(gradient, weights.transpose(0, 2, 1), pairs, pair_splits, 0, zero, non_overlapping, out)
    return out


def _sum_products(source, weights, pairs, splits, column, base, non_overlapping, out):
    """out = base + the sum over the pairs of each offset k of a row of `source` times weights[k].

    column : of the pairs, that names the rows of `out`; the other names the rows of `source`
    non_overlapping : no row is written twice, and base is zero
    """
    rows, columns = out.shape
    depth = source.shape[1]
    if not rows or not columns:
        return
    if not len(pairs) or not depth:
        out[...] = base
        return
    step = rows_of_block(rows, columns * out.itemsize)
    loop, matrices = blas.product_loop(out.dtype), (weights.ctypes.data, *weights.strides)

    def block(start: int, stop: int) -> None:
        buffers = _buffer("gathered", _RUN, depth, out.dtype), _buffer("products", _RUN, columns, out.dtype)
        _sum_products_of_rows(loop, source, matrices, (pairs, splits, column), start, stop, buffers,
                              (out, base, non_overlapping))

    with single_threaded_blas():
        run_rows(block, rows, step)


def _buffer(name, rows, columns, dtype):
    return scratch(name, rows * columns, dtype)[0].reshape(rows, columns)


def rows_of_block(rows: int, row_bytes: int) -> int:
    """Output rows of a block, a multiple of 16: as many as stay in the cache, fewer if the rows are few."""
    step = min(max(_RUN, _TARGET_BYTES // max(row_bytes, 1)), -(-rows // _MIN_BLOCKS))
    return max(16, -(-step // 16) * 16)


def weight_gradient(features, gradient, pairs, pair_splits):
    """(K, C_in, C_out): the sum over the pairs of each offset of features[n]^T gradient[m]."""
    offsets, c_in, c_out = len(pair_splits) - 1, features.shape[1], gradient.shape[1]
    out = np.zeros((offsets, c_in, c_out), features.dtype)
    if not len(pairs) or not out.size:
        return out
    limit = max(_MIN_PAIRS, -(-len(pairs) // (2 * _MIN_BLOCKS)))  # of the pairs of a run
    counts = np.diff(pair_splits)
    parts = -(-counts // limit)  # of each offset
    owners = np.repeat(np.arange(offsets), parts)
    part = np.arange(len(owners)) - np.repeat(np.cumsum(parts) - parts, parts)
    starts = pair_splits[owners] + counts[owners] * part // parts[owners]
    stops = pair_splits[owners] + counts[owners] * (part + 1) // parts[owners]
    partial = np.empty((len(starts), c_in, c_out), features.dtype)
    loop = blas.product_loop(out.dtype)

    def block(index: int) -> None:
        buffers = (_buffer("gathered", _RUN, c_in, out.dtype), _buffer("products", _RUN, c_out, out.dtype),
                   _buffer("product", c_in, c_out, out.dtype))
        _sum_outer_products(loop, features, gradient, pairs, starts[index], stops[index], buffers, partial[index])

    with single_threaded_blas():
        run_blocks(block, len(starts))
    for owner, first, total in zip(owners, part == 0, partial, strict=True):
        if first:
            out[owner] = total
        else:
            out[owner] += total
    return out


@compiled
def _gathered(source, pairs, column, start, stop, buffer):
    """The address of the rows of `source` that the pairs `start` to `stop` - 1 name in a column, one after the other:
    in `source` itself if they lie there so, else in `buffer`, to which they are copied."""
    columns, count, first = source.shape[1], stop - start, np.int64(pairs[start, column])
    if pairs[stop - 1, column] - first == count - 1:
        return np.int64(source.ctypes.data) + first * columns * source.itemsize
    for i in range(count):
        row = pairs[start + i, column]
        for c in range(columns):
            buffer[i, c] = source[row, c]
    return np.int64(buffer.ctypes.data)


@compiled
def _sum_products_of_rows(loop, source, matrices, links, first, last, buffers, target):
    """The rows `first` to `last` - 1 of `_sum_products`.

    loop : from `blas.product_loop`
    matrices : the address of the weights and their strides in bytes, of offset, row and column
    links : (pairs, splits, column)
    buffers : gathered rows (R, depth) and their products (R, columns)
    target : (out, base, non_overlapping)
    """
    (weights_at, next_matrix, next_row, next_column), (pairs, splits, column) = matrices, links
    out, base, non_overlapping = target
    written, (gathered, products) = pairs[:, column], buffers
    products_at, depth, columns, size = np.int64(products.ctypes.data), source.shape[1], out.shape[1], out.itemsize
    if not (non_overlapping and len(pairs) == out.shape[0]):  # else each row is written by a pair
        for m in range(first, last):
            for c in range(columns):
                out[m, c] = base[c]
    for k in range(splits.size - 1):
        start = lower_bound(written, splits[k], splits[k + 1], first)
        end = lower_bound(written, start, splits[k + 1], last)
        while start < end:
            stop = min(start + gathered.shape[0], end)
            multiply(loop, Matrix(_gathered(source, pairs, 1 - column, start, stop, gathered), depth * size, size),
                     Matrix(weights_at + k * next_matrix, next_row, next_column),
                     Matrix(products_at, columns * size, size), (stop - start, depth, columns))
            if non_overlapping:
                for i in range(stop - start):
                    m = pairs[start + i, column]
                    for c in range(columns):
                        out[m, c] = products[i, c]
            else:
                for i in range(stop - start):
                    m = pairs[start + i, column]
                    for c in range(columns):
                        out[m, c] += products[i, c]
            start = stop


@compiled
def _sum_outer_products(loop, features, gradient, pairs, first, last, buffers, total):
    """total (C_in, C_out) = the sum over the pairs `first` to `last` - 1 of features[n]^T gradient[m].

    buffers : gathered rows of features (R, C_in) and gradient (R, C_out), and a product (C_in, C_out)
    """
    left, right, product = buffers
    c_in, c_out, size = features.shape[1], gradient.shape[1], features.itemsize
    start, target = first, np.int64(total.ctypes.data)  # the first product is the total so far
    while start < last:
        stop = min(start + left.shape[0], last)
        multiply(loop, Matrix(_gathered(features, pairs, 0, start, stop, left), size, c_in * size),
                 Matrix(_gathered(gradient, pairs, 1, start, stop, right), c_out * size, size),
                 Matrix(target, c_out * size, size), (c_in, stop - start, c_out))
        if start > first:
            for i in range(c_in):
                for c in range(c_out):
                    total[i, c] += product[i, c]
        start, target = stop, np.int64(product.ctypes.data)
