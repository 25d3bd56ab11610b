"""Convolution in narrow groups on a CPU, depthwise among them (one input channel a group), channel by channel.

    out[m, o] = sum over the offsets k, upwards, and the J input channels i of o's group, of
                features[neighbours[m, k], J group(o) + i] weights[k, i, o]        + constant[o]

    rows of out      | block 0 | block 1 | ...        cut by sizes alone; one thread takes a block
    a row            | 32 channels | 32 | 16 | ...     whose sums stay in registers over all offsets

The features are spread first, (N, J, C_out), so that row i holds for each output channel the i-th input channel of its
group, and the inner loop goes channel by channel.  The input gradient is the same over the transposed neighbours.
The weight gradient sums in float64, 64 rows at a time; its blocks are joined in order.

A row of the result depends on no other row, so a sample has the same bits in any batch.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.lanes import doubles, fma, load, load_some, spread, store, store_some
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows

_BLOCK = 1 << 14  # numbers of the result
_WIDE, _WIDTH = 32, 16  # channels side by side
_ROWS = 64  # that stay in the first cache while all offsets are summed
_PARTIALS = 64  # partial weight gradients, and so threads that can help with one


def forward(features, weights, neighbours, constant, groups):
    """(M, C_out)"""
    channels = weights.shape[2]
    base = np.zeros(channels, features.dtype) if constant is None else constant
    return _convolved(_spread(features, groups, channels), weights, neighbours, base)


def input_gradient(gradient, weights, rulebook, groups):
    """(N, C_in)"""
    (_, inputs, channels), (rows, *_) = weights.shape, rulebook.shape
    if rulebook.submanifold:  # n sees m under k exactly if m sees n under the opposite offset
        table, weights = rulebook.neighbours, weights[::-1]
    else:
        table = np.ascontiguousarray(rulebook.transposed_neighbours)
    out, base = np.empty((rows, groups, inputs), gradient.dtype), np.zeros(channels, gradient.dtype)
    for i in range(inputs):
        of_outputs = _convolved(gradient[:, None], np.ascontiguousarray(weights[:, i : i + 1]), table, base)
        out[:, :, i] = of_outputs.reshape(rows, groups, channels // groups).sum(axis=2)
    return out.reshape(rows, groups * inputs)


def weight_gradient(features, gradient, neighbours, groups):
    """(K, J, C_out): the sum over m of features[neighbours[m, k]] gradient[m], group by group."""
    (rows, offsets), channels = neighbours.shape, gradient.shape[1]
    features = _spread(features, groups, channels)
    step = max(1024, -(-rows // _PARTIALS))
    partial = np.zeros((-(-rows // step), offsets, features.shape[1], channels))
    run_rows(lambda start, stop: _sum_rows(features, gradient, neighbours, start, stop, partial[start // step]), rows,
             step)
    return partial.sum(axis=0).astype(features.dtype)


def _spread(features, groups, channels):
    """(N, J, C_out): the i-th input channel of each output channel's group."""
    rows, inputs = len(features), features.shape[1] // groups
    if inputs == 1 and channels == groups:
        return features[:, None]
    grouped = features.reshape(rows, groups, inputs).transpose(0, 2, 1)
    return np.ascontiguousarray(grouped.repeat(channels // groups, axis=2))


def _convolved(features, weights, neighbours, base):
    """(M, C_out), from features (N, J, C_out) and weights (K, J, C_out)."""
    out = np.empty((len(neighbours), weights.shape[2]), features.dtype)
    run_rows(lambda start, stop: _sum_offsets(features, weights, neighbours, base, start, stop, out), len(out),
             max(16, _BLOCK // weights.shape[2]))
    return out


@compiled
def _sum_offsets(features, weights, neighbours, base, start, stop, out):
    channels, nothing = out.shape[1], out.dtype.type(0)
    offsets, inputs = weights.shape[:2]
    for m in range(start, stop):
        first = 0
        while first + _WIDE <= channels:
            total = spread(nothing, _WIDE)
            for k in range(offsets):
                n = neighbours[m, k]
                if n >= 0:
                    for i in range(inputs):
                        total = fma(load(features, (n, i, first), _WIDE), load(weights, (k, i, first), _WIDE), total)
            store(out, (m, first), total + load(base, first, _WIDE))
            first += _WIDE
        while first < channels:
            rest = channels - first
            some = spread(nothing, _WIDTH)
            for k in range(offsets):
                n = neighbours[m, k]
                if n >= 0:
                    for i in range(inputs):
                        some = fma(load_some(features, (n, i, first), rest, nothing, _WIDTH),
                                   load_some(weights, (k, i, first), rest, nothing, _WIDTH), some)
            store_some(out, (m, first), rest, some + load_some(base, first, rest, nothing, _WIDTH))
            first += _WIDTH


@compiled
def _sum_rows(features, gradient, neighbours, start, stop, out):
    channels, nothing = gradient.shape[1], gradient.dtype.type(0)
    for above in range(start, stop, _ROWS):
        below, first = min(above + _ROWS, stop), 0
        while first < channels:
            rest = channels - first
            for k in range(neighbours.shape[1]):
                for i in range(features.shape[1]):
                    total = load_some(out, (k, i, first), rest, 0.0, _WIDTH)
                    for m in range(above, below):
                        n = neighbours[m, k]
                        if n >= 0:
                            value = doubles(load_some(features, (n, i, first), rest, nothing, _WIDTH))
                            slope = doubles(load_some(gradient, (m, first), rest, nothing, _WIDTH))
                            total = fma(value, slope, total)
                    store_some(out, (k, i, first), rest, total)
            first += _WIDTH
