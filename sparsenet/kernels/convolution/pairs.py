"""Sparse convolution on a CPU over pairs: nothing is done for an offset that joins no sites.

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
from sparsenet.kernels.cpu.blas import multiply
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
    _walk(features, weights, pairs, pair_splits, 1, out, base, False)
    return out


def input_gradient(gradient, weights, pairs, pair_splits, inputs, non_overlapping):
    """(N, C_in): the sum over the pairs of each offset of gradient[m] W[k]^T.

    inputs : N
    non_overlapping : no input row is in two pairs, so nothing has to be added up
    """
    out = np.empty((inputs, weights.shape[1]), gradient.dtype)
    zero = np.zeros(weights.shape[1], gradient.dtype)
    _walk(gradient, weights.transpose(0, 2, 1), pairs, pair_splits, 0, out, zero, non_overlapping)
    return out


def _walk(source, weights, pairs, splits, side, out, base, once):
    """out = base + the products of the pairs, whose column `side` names the rows of out.

    once : each row of out is in one pair at most, and base is zero
    """
    rows, columns = out.shape
    depth, size = source.shape[1], out.itemsize
    if not rows or not columns:
        return
    if not len(pairs) or not depth:
        out[...] = base
        return
    filled = once and len(pairs) == rows  # each row is written: none needs to be filled with the base
    step = rows_of_block(rows, columns * size)
    addresses = np.array([blas.product_loop(out.dtype), source.ctypes.data, weights.ctypes.data, *weights.strides])

    def block(start: int, stop: int) -> None:
        gathered, gathered_at = scratch("gathered", _RUN * depth, out.dtype)
        products, products_at = scratch("products", _RUN * columns, out.dtype)
        _walk_block(addresses, source, pairs, splits, side, start, stop, base, filled, once,
                    gathered.reshape(_RUN, depth), gathered_at, products.reshape(_RUN, columns), products_at, out)

    with single_threaded_blas():
        run_rows(block, rows, step)


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
    runs = np.stack([starts, stops], axis=1)
    partial = np.empty((len(runs), c_in, c_out), features.dtype)
    addresses = np.array([blas.product_loop(out.dtype), *(a.ctypes.data for a in (features, gradient, partial))])

    def block(index: int) -> None:
        left, left_at = scratch("gathered", _RUN * c_in, out.dtype)
        right, right_at = scratch("products", _RUN * c_out, out.dtype)
        product, product_at = scratch("product", c_in * c_out, out.dtype)
        _weights_of_run(addresses, features, gradient, pairs, runs, index, left.reshape(_RUN, c_in), left_at,
                        right.reshape(_RUN, c_out), right_at, product.reshape(c_in, c_out), product_at, partial)

    with single_threaded_blas():
        run_blocks(block, len(runs))
    for owner, first, total in zip(owners, part == 0, partial, strict=True):
        if first:
            out[owner] = total
        else:
            out[owner] += total
    return out


@compiled
def _gather(source, pairs, side, start, count, out):
    """The rows of `source` that column `side` of the pairs from `start` on names."""
    for i in range(count):
        row = pairs[start + i, side]
        for c in range(out.shape[1]):
            out[i, c] = source[row, c]


@compiled
def _walk_block(addresses, source, pairs, splits, side, first, last, base, filled, once, gathered, gathered_at,
                products, products_at, out):
    depth, columns, size = source.shape[1], out.shape[1], out.itemsize
    run = gathered.shape[0]
    loop, source_at, weights_at = addresses[0], addresses[1], addresses[2]
    if not filled:
        for m in range(first, last):
            for c in range(columns):
                out[m, c] = base[c]
    for k in range(splits.size - 1):
        start = lower_bound(pairs[:, side], splits[k], splits[k + 1], first)
        end = lower_bound(pairs[:, side], start, splits[k + 1], last)
        weight_at = weights_at + k * addresses[3]
        while start < end:
            stop = min(start + run, end)
            count = stop - start
            at = gathered_at
            row = np.int64(pairs[start, 1 - side])
            if pairs[stop - 1, 1 - side] - row == count - 1:  # they lie next to each other
                at = source_at + row * depth * size
            else:
                _gather(source, pairs, 1 - side, start, count, gathered)
            multiply(loop, at, depth * size, size, weight_at, addresses[4], addresses[5], products_at, columns * size,
                     count, depth, columns, size)
            if once:
                for i in range(count):
                    m = pairs[start + i, side]
                    for c in range(columns):
                        out[m, c] = products[i, c]
            else:
                for i in range(count):
                    m = pairs[start + i, side]
                    for c in range(columns):
                        out[m, c] += products[i, c]
            start = stop


@compiled
def _weights_of_run(addresses, features, gradient, pairs, runs, index, left, left_at, right, right_at, product,
                    product_at, partial):
    c_in, c_out, size = features.shape[1], gradient.shape[1], features.itemsize
    loop, features_at, gradient_at = addresses[0], addresses[1], addresses[2]
    total_at = addresses[3] + index * c_in * c_out * size
    total = partial[index]
    begin, end = runs[index, 0], runs[index, 1]
    start = begin
    while start < end:
        stop = min(start + left.shape[0], end)
        count = stop - start
        a, b = left_at, right_at
        n, m = np.int64(pairs[start, 0]), np.int64(pairs[start, 1])
        if pairs[stop - 1, 0] - n == count - 1:
            a = features_at + n * c_in * size
        else:
            _gather(features, pairs, 0, start, count, left)
        if pairs[stop - 1, 1] - m == count - 1:
            b = gradient_at + m * c_out * size
        else:
            _gather(gradient, pairs, 1, start, count, right)
        multiply(loop, a, size, c_in * size, b, c_out * size, size, total_at if start == begin else product_at,
                 c_out * size, c_in, count, c_out, size)
        if start > begin:
            for i in range(c_in):
                for c in range(c_out):
                    total[i, c] += product[i, c]
        start = stop
