"""Sparse convolution on a CPU whose output rows are independent: a sample has the same bits in every batch.

    out[m] = sum over the offsets k, upwards, of  features[neighbours[m, k]] W[k]    + constant

The products are those of cpu/row_products.py, a chain of multiply-adds for each output and offset.  An offset that
joins an output row to no site adds nothing, so both views of a rulebook give the same bits:

    neighbours    block of rows, offset by offset: the filled entries of column k become links [n, m]
    pairs         block of rows, offset by offset: the block's run of pairs, which are links

The constant comes last, as `add_sample_rows` adds one for each sample: a background that the samples share and one row
for each of them give the same bits, too.  A leaky ReLU is applied with it, while a block's rows are in the cache.  On
a GPU the kernels of forward.cu sum each row on its own anyway.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.convolution.pairs import rows_of_block
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.row_products import add_products
from sparsenet.kernels.cpu.scratch import scratch
from sparsenet.kernels.cpu.search import lower_bound
from sparsenet.kernels.cpu.threads import run_rows


def over_neighbours(features, weights, neighbours, constant, slope=None):
    """(M, C_out): the sum over the filled entries, plus the constant row (C_out,) unless it is None, through a leaky
    ReLU if a slope is given."""
    out, last, step = _prepared(len(neighbours), features, weights, constant, slope)

    def block(start: int, stop: int) -> None:
        links, _ = scratch("links", 2 * step, np.dtype(np.int32))
        _add_entries(features, weights, neighbours, start, stop, links.reshape(step, 2), last, out)

    run_rows(block, len(out), step)
    return out


def over_pairs(features, weights, pairs, pair_splits, outputs, constant, slope=None):
    """(M, C_out): the sum over the pairs, plus the constant row (C_out,) unless it is None, through a leaky ReLU if a
    slope is given.

    outputs : M
    """
    out, last, step = _prepared(outputs, features, weights, constant, slope)
    run_rows(lambda start, stop: _add_pairs(features, weights, pairs, pair_splits, start, stop, last, out),
             len(out), step)
    return out


def _prepared(rows, features, weights, constant, slope):
    """The output, not filled; the constant row and the slope, 1 for none; the rows of a block."""
    columns = weights.shape[2]
    out = np.empty((rows, columns), features.dtype)
    base = np.zeros(columns, features.dtype) if constant is None else constant
    return out, (base, out.dtype.type(1 if slope is None else slope)), rows_of_block(rows, columns * out.itemsize)


@compiled
def _fill(out, first, stop):
    for m in range(first, stop):
        for c in range(out.shape[1]):
            out[m, c] = 0


@compiled
def _finish(out, first, stop, last):
    base, slope = last
    for m in range(first, stop):
        for c in range(out.shape[1]):
            value = out[m, c] + base[c]
            out[m, c] = value if value > 0 else value * slope


@compiled
def _add_entries(features, weights, neighbours, first, stop, links, last, out):
    _fill(out, first, stop)
    for k in range(neighbours.shape[1]):
        count = 0
        for m in range(first, stop):
            n = neighbours[m, k]
            if n >= 0:
                links[count, 0], links[count, 1] = n, m
                count += 1
        add_products(features, weights, k, links, 0, count, out)
    _finish(out, first, stop, last)


@compiled
def _add_pairs(features, weights, pairs, splits, first, stop, last, out):
    outputs = pairs[:, 1]
    _fill(out, first, stop)
    for k in range(splits.size - 1):
        start = lower_bound(outputs, splits[k], splits[k + 1], first)
        end = lower_bound(outputs, start, splits[k + 1], stop)
        add_products(features, weights, k, pairs, start, end, out)
    _finish(out, first, stop, last)
