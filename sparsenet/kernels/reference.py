"""Every kernel as its formula, in NumPy alone: the specification that the fast backends are tested against.

`sn.set_backend("reference")`, or SPARSENET_BACKEND=reference, runs whole networks on it.  It is slow and short: one
function per kernel, no threads, nothing compiled, so a debugger can step through a whole training step.  It promises
values, not bits.  Letters as in contracts.py; an entry -1 of the neighbours is an inactive cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise, product
from math import erfc, pi, prod

import numpy as np

from sparsenet.backend import REFERENCE
from sparsenet.kernels import contracts
from sparsenet.kernels.hash_table import EMPTY, MIX, HashTable, capacity_for
from sparsenet.kernels.table import formula_of, launch
from sparsenet.kernels.voxels import place

# ---- sites -------------------------------------------------------------------------------------------------------

@formula_of("site_coordinates")
def site_coordinates(keys, spatial_size):
    """(N, 1+D) int32: a key is the row-major index of [batch, x, y, ...]."""
    strides = np.cumprod((1, *spatial_size[::-1]), dtype=np.int64)[::-1]
    return (keys[:, None] // strides % (2**31, *spatial_size)).astype(np.int32)


def keys_of(batch: np.ndarray, cells: np.ndarray, sides: tuple[int, ...]) -> np.ndarray:
    """(N,) int64 keys of cells (N, D) in grids `batch` (N,)."""
    return np.column_stack([batch, cells]) @ np.cumprod((1, *sides[::-1]), dtype=np.int64)[::-1]


@formula_of("hash_insert")
def hash_insert(keys, check):
    """`table_keys` (T,) int64 and `table_rows` (T,) int32: each key in the first free slot from its home on."""
    table_keys = np.full(capacity_for(len(keys)), EMPTY, np.int64)
    table_rows = np.full(len(table_keys), -1, np.int32)
    for row, key in enumerate(keys.tolist()):
        slot = ((key >> 3) * MIX % 2**64 >> 32 << 3 | key & 7) % len(table_keys)  # home: keeps the three low bits
        while table_keys[slot] not in (EMPTY, key):
            slot = (slot + 1) % len(table_keys)
        if table_keys[slot] == key:
            raise ValueError(f"hash_insert: key {key} of row {row} occurs twice")
        table_keys[slot], table_rows[slot] = key, row
    return HashTable(table_keys, table_rows)


@formula_of("hash_lookup")
def hash_lookup(table_keys, table_rows, queries):
    """(Q,) int32: the row of each key, -1 if it is not in the table."""
    row_of = dict(zip(table_keys.tolist(), table_rows.tolist(), strict=True)) | {EMPTY: -1}
    return np.array([row_of.get(key, -1) for key in queries.tolist()], np.int32)


# ---- rulebooks: input cell = output cell * stride - padding + offset ---------------------------------------------

def joined_outputs(coordinates, output_size, kernel_size, stride, padding, dilation) -> Iterable[tuple]:
    """For each offset, row-major: the sites n that it joins to a cell of the output grid, and the keys of those."""
    for offset in product(*map(range, kernel_size)):
        cells, rest = np.divmod(coordinates[:, 1:] + padding - np.multiply(offset, dilation, dtype=np.int64), stride)
        n = np.flatnonzero(((rest == 0) & (cells >= 0) & (cells < output_size)).all(axis=1))
        yield n, keys_of(coordinates[n, 0], cells[n], output_size)


@formula_of("output_keys")
def output_keys(keys, coordinates, batch_splits, sites, spatial_size, output_size, *axes):
    """(M,) int64: the keys of the cells that some offset joins to a site, each once, in order."""
    return np.unique(np.concatenate([joined for _, joined in joined_outputs(coordinates, output_size, *axes)]))


@formula_of("neighbours")
def neighbours(keys, coordinates, batch_splits, output_keys, output_coordinates, sites, spatial_size, output_size,
               kernel_size, *axes):
    """(M, K) int32: the row of the site that offset k joins to output m, or -1."""
    table = np.full((len(output_keys), prod(kernel_size)), -1, np.int32)
    for k, (n, joined) in enumerate(joined_outputs(coordinates, output_size, kernel_size, *axes)):
        _, m, i = np.intersect1d(output_keys, joined, assume_unique=True, return_indices=True)
        table[m, k] = n[i]
    return table


@formula_of("transpose_neighbours")
def transpose_neighbours(neighbours, inputs):
    """(N, K) int32: the row of the output that offset k joins to input n, or -1."""
    transposed = np.full((inputs, neighbours.shape[1]), -1, np.int32)
    m, k = np.nonzero(neighbours >= 0)
    transposed[neighbours[m, k], k] = m
    return transposed


@formula_of("windows")
def windows(neighbours, output_coordinates, spatial_size, output_size, kernel_size, stride, padding, dilation):
    """(M, K) int32: the neighbours, and -2 for a cell outside the grid."""
    out = neighbours.copy()
    for k, offset in enumerate(product(*map(range, kernel_size))):
        cells = output_coordinates[:, 1:].astype(np.int64) * stride - padding + np.multiply(offset, dilation)
        out[~((cells >= 0) & (cells < spatial_size)).all(axis=1), k] = -2
    return out


@formula_of("pairs")
def pairs(keys, coordinates, batch_splits, output_keys, rulebook, submanifold, *axes):
    """((P, 2) int32 rows [input, output], by offset and then by output; (K+1,) int64 where each offset's begin)."""
    k, m = np.nonzero(rulebook.neighbours.T >= 0)
    splits = np.searchsorted(k, np.arange(rulebook.neighbours.shape[1] + 1))
    return np.stack([rulebook.neighbours[m, k], m], axis=1).astype(np.int32), splits.astype(np.int64)


@formula_of("transposed_of_pairs")
def transposed_of_pairs(pairs, pair_splits, inputs):
    """(N, K) int32, as `transpose_neighbours`."""
    transposed = np.full((inputs, len(pair_splits) - 1), -1, np.int32)
    transposed[pairs[:, 0], np.repeat(np.arange(len(pair_splits) - 1), np.diff(pair_splits))] = pairs[:, 1]
    return transposed


@formula_of("pair_count")
def pair_count(coordinates, spatial_size, output_size, *axes):
    """P: how many pairs of a site and an output there are, over all offsets."""
    return sum(len(n) for n, _ in joined_outputs(coordinates, output_size, *axes))


def by_offset(rulebook) -> Iterable[np.ndarray]:
    """For each offset k the rows n of the inputs and m of the outputs that it joins, none of them twice."""
    return np.split(rulebook.pairs.T, rulebook.pair_splits[1:-1], axis=1)


# ---- convolution, over the pairs (n, m) of each offset k of a rulebook -----------------------------------------------

@formula_of("convolution_forward", "convolution_forward_by_row", reads=("pairs",))
def convolution_forward(features, weights, rulebook, constant, *slope):
    """out[m] = constant + sum over (n, m) of each k of features[n] @ weights[k], through a leaky ReLU."""
    out = np.zeros((rulebook.shape[1], weights.shape[2]), features.dtype)
    for k, (n, m) in enumerate(by_offset(rulebook)):
        out[m] += features[n] @ weights[k]
    out = out if constant is None else out + constant
    return out if slope in ((), (None,)) else leaky_relu_forward(out, *slope, None)


@formula_of("convolution_input_gradient", reads=("pairs",))
def convolution_input_gradient(gradient, weights, rulebook, turned):
    """out[n] = sum over (n, m) of each k of gradient[m] @ weights[k]^T."""
    out = np.zeros((rulebook.shape[0], weights.shape[1]), gradient.dtype)
    for k, (n, m) in enumerate(by_offset(rulebook)):
        out[n] += gradient[m] @ weights[k].T
    return out


@formula_of("convolution_weight_gradient", reads=("pairs",))
def convolution_weight_gradient(features, gradient, rulebook, background, constant_gradient):
    """out[k] = background^T constant_gradient + sum over (n, m) of k of features[n]^T @ gradient[m]."""
    out = np.zeros((rulebook.shape[2], features.shape[1], gradient.shape[1]), features.dtype)
    for k, (n, m) in enumerate(by_offset(rulebook)):
        out[k] = features[n].T @ gradient[m]
    return out if background is None else out + np.outer(background, constant_gradient)


@formula_of("grouped_convolution_forward", "grouped_convolution_forward_by_row", reads=("pairs",))
def grouped_convolution_forward(features, weights, rulebook, constant, groups):
    """Each group of output channels from its own input channels."""
    parts = [convolution_forward(x, w, rulebook, None) for x, w in in_groups(groups, features, weights)]
    return np.concatenate(parts, axis=1) + (0 if constant is None else constant)


@formula_of("grouped_convolution_input_gradient", reads=("pairs",))
def grouped_convolution_input_gradient(gradient, weights, rulebook, groups):
    """The gradient of each group's input channels."""
    return np.concatenate([convolution_input_gradient(g, w, rulebook, None)
                           for g, w in in_groups(groups, gradient, weights)], axis=1)


@formula_of("grouped_convolution_weight_gradient", reads=("pairs",))
def grouped_convolution_weight_gradient(features, gradient, rulebook, groups):
    """(K, C_in / groups, C_out)"""
    return np.concatenate([convolution_weight_gradient(x, g, rulebook, None, None)
                           for x, g in in_groups(groups, features, gradient)], axis=2)


def in_groups(groups: int, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The arrays with their last axes cut into groups, group by group."""
    return zip(*(np.split(array, groups, axis=-1) for array in arrays), strict=True)


@formula_of("matmul", "matmul_by_row")
def matmul(a, b):
    """(M, N) = a @ b."""
    return a @ b


# ---- pooling, activation, levels (both after a convolution), batch norm ----------------------------------------------

@formula_of("max_pool_forward", reads=("windows",))
def max_pool_forward(features, background, windows, output_coordinates, relative):
    """(out, argmax int16): a window's largest value, its first offset (of NaN the last); -1 background, -2 no cell."""
    (outputs, offsets), counts, inactive = windows.shape, windows >= 0, windows == -1
    if background is not None:
        counts |= inactive & (inactive.cumsum(axis=1) == 1)
    below = np.zeros((1, features.shape[1]), features.dtype) if background is None else background
    sample = output_coordinates[:, :1] if len(below) > 1 else 0
    values, rows = np.concatenate([features, below]), np.where(windows < 0, len(features) + sample, windows)
    first = counts.argmax(axis=1)
    out, argmax = values[rows[np.arange(outputs), first]], np.tile(first.astype(np.int16)[:, None], below.shape[1])
    for k in range(offsets):
        value = values[rows[:, k]]
        wins = counts[:, k : k + 1] & ((value > out) | np.isnan(value))
        out[wins], argmax[wins] = value[wins], k
    return out - of_sites(below, output_coordinates) if relative else out, argmax


@formula_of("max_pool_backward", reads=("neighbours",))
def max_pool_backward(gradient, argmax, rulebook, batch_splits):
    """((N, C), (B, C)): each output's gradient goes to the cell that won, a site or the background of the sample."""
    neighbours, inputs, channels = rulebook.neighbours, rulebook.shape[0], gradient.shape[1]
    splits = [0, len(gradient)] if batch_splits is None else batch_splits
    sample = np.repeat(np.arange(len(splits) - 1), np.diff(splits))[:, None]
    winners = np.take_along_axis(np.where(neighbours < 0, inputs + sample, neighbours), argmax.astype(np.int64), axis=1)
    out = np.zeros((inputs + len(splits) - 1, channels), gradient.dtype)
    np.add.at(out.reshape(-1), (winners * channels + np.arange(channels)).reshape(-1), gradient.reshape(-1))
    return out[:inputs], out[inputs:].copy()


@formula_of("sum_pool_forward", reads=("windows",))
def sum_pool_forward(features, background, windows, output_coordinates, mean):
    """(M, C): sums over a window's cells, without a background its sites; a mean by their number.  -2 is no cell."""
    zeros = np.zeros((1, features.shape[1]), features.dtype)
    counted, values, rows = windows >= 0, np.concatenate([features, zeros]), windows
    if background is not None:  # its rows follow those of the sites
        sample = output_coordinates[:, :1] if len(background) > 1 else 0
        counted, values = windows > -2, np.concatenate([features, background, zeros])
        rows = np.where(windows == -1, len(features) + sample, windows)
    out = values[np.where(counted, rows, len(values) - 1)].sum(axis=1)
    return out / counted.sum(axis=1, keepdims=True, dtype=features.dtype).clip(1) if mean else out


@formula_of("sum_pool_backward", reads=("windows",))
def sum_pool_backward(gradient, rulebook, batch_splits, mean, with_background, to_background):
    """((N, C), (B, C) or None): each window's gradient, for a mean its share, goes to each of its cells."""
    windows, out = rulebook.windows, np.zeros((rulebook.shape[0], gradient.shape[1]), gradient.dtype)
    counted = windows > -2 if with_background else windows >= 0
    share = gradient / counted.sum(axis=1, keepdims=True, dtype=gradient.dtype).clip(1) if mean else gradient
    m, k = np.nonzero(windows >= 0)
    np.add.at(out, windows[m, k], share[m])
    below = (windows == -1).sum(axis=1, keepdims=True, dtype=gradient.dtype) * share
    return out, segment_sum(below, batch_splits) if to_background else None


@formula_of("leaky_relu_forward")
def leaky_relu_forward(x, slope, background):
    """x if x > 0, else slope * x; with a background, both."""
    out = np.where(x > 0, x, x * x.dtype.type(slope))
    return out if background is None else (out, leaky_relu_forward(background, slope, None))


@formula_of("leaky_relu_backward")
def leaky_relu_backward(reference, gradient, slope, background, background_gradient):
    """gradient if reference > 0, else slope * gradient; with a background and its gradient, both."""
    out = np.where(reference > 0, gradient, gradient * gradient.dtype.type(slope))
    return out if background is None else (out, leaky_relu_backward(background, background_gradient, slope, None, None))


@formula_of("level_background")
def level_background(weights, background, bias, slope, reversed, with_gradient):
    """(C_out,) constant = background @ sum_k weights[k] + bias, and its leaky ReLU; if with_gradient, also that sum
    (C_in, C_out) and the transposed weights (K, C_out, C_in), the offsets in reverse order if `reversed`."""
    total, constant = weights.sum(axis=0), np.zeros(weights.shape[2], weights.dtype)
    constant += 0 if background is None else background @ total
    constant += 0 if bias is None else bias
    turned = np.ascontiguousarray((weights[::-1] if reversed else weights).transpose(0, 2, 1))
    return constant, leaky_relu_forward(constant, slope, None), *((total, turned) if with_gradient else (None, None))


@formula_of("level_gradient")
def level_gradient(gradient, argmax, transposed_neighbours, activated, constant, output_background_gradient, slope,
                   total_weight):
    """Gradients of the convolution's output (N, C), of its constant (C,) and, given total_weight, of its input's
    background (C_in,).  After a pooling, `gradient` is that of the maxima less the level's background."""
    below = np.zeros_like(constant) if output_background_gradient is None else output_background_gradient
    if argmax is not None:
        n, k = np.nonzero(transposed_neighbours >= 0)
        m = transposed_neighbours[n, k]
        pooled, gradient = gradient, np.zeros_like(activated)
        np.add.at(gradient, n, np.where(argmax[m] == k[:, None], pooled[m], 0))
        below = below - segment_sum(gradient, None)[0]
    out = leaky_relu_backward(activated, gradient, slope, None, None)
    to_constant = leaky_relu_backward(constant, below, slope, None, None) + segment_sum(out, None)[0]
    return out, to_constant, None if total_weight is None else total_weight @ to_constant


@formula_of("activation_forward")
def activation_forward(x, kind, alpha, background):
    """f(x), in float64 and rounded once; with a background, both."""
    v = x.astype(np.float64)
    out = {contracts.ELU: lambda: np.where(v > 0, v, alpha * np.expm1(v)),
           contracts.GELU: lambda: np.where(v == -np.inf, 0, v * normal(v)),
           contracts.SILU: lambda: np.where(v == -np.inf, 0, v * logistic(v)),
           contracts.TANH: lambda: np.tanh(v),
           contracts.SIGMOID: lambda: logistic(v)}[kind]().astype(x.dtype)
    return out if background is None else (out, activation_forward(background, kind, alpha, None))


@formula_of("activation_backward")
def activation_backward(kept, gradient, kind, alpha, background, background_gradient):
    """gradient * f', from the input of GELU and SiLU, from the output of the others; with a background, both."""
    v = kept.astype(np.float64)
    x = np.clip(v, -1e3, 1e3)  # no infinity times 0
    slope = {contracts.ELU: lambda: np.where(v > 0, 1, v + alpha),
             contracts.GELU: lambda: normal(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * pi),
             contracts.SILU: lambda: logistic(x) * (1 + x * logistic(-x)),
             contracts.TANH: lambda: 1 - v * v,
             contracts.SIGMOID: lambda: v * (1 - v)}[kind]()
    out = (gradient * slope).astype(gradient.dtype)
    return out if background is None else (
        out, activation_backward(background, background_gradient, kind, alpha, None, None))


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x)"""
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def normal(x: np.ndarray) -> np.ndarray:
    """P(X <= x), X standard normal: erfc(-x / sqrt 2) / 2."""
    return np.reshape([erfc(-v) / 2 for v in np.ravel(x / np.sqrt(2)).tolist()], x.shape)


@formula_of("prelu_forward")
def prelu_forward(x, slope, background):
    """x if x > 0, else the slope of its channel times x; with a background, both."""
    out = np.where(x > 0, x, slope * x)
    return out if background is None else (out, prelu_forward(background, slope, None))


@formula_of("prelu_backward")
def prelu_backward(x, gradient, slope, background, background_gradient):
    """Gradients of x (N, C), background (G, C) and slope (S,), the last summed in float64 and rounded once."""
    def through(x, gradient):
        by_slope = np.where(x > 0, 0, x.astype(np.float64) * gradient)
        return np.where(x > 0, gradient, slope * gradient), by_slope.sum(axis=0 if len(slope) == x.shape[1] else None)

    out, total = through(x, gradient)
    below, more = (None, 0) if background is None else through(background, background_gradient)
    return out, below, np.reshape(total + more, slope.shape).astype(slope.dtype)


@formula_of("softmax_forward")
def softmax_forward(x, background):
    """e^x / its sum over the row, in float64 and rounded once; with a background, both."""
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True, initial=-np.inf))
    out = (e / e.sum(axis=1, keepdims=True)).astype(x.dtype)
    return out if background is None else (out, softmax_forward(background, None))


@formula_of("softmax_backward")
def softmax_backward(y, gradient, background, background_gradient):
    """y * (gradient - the sum over the row of y * gradient); with a background, both."""
    out = y * (gradient - (y * gradient).sum(axis=1, keepdims=True))
    return out if background is None else (out, softmax_backward(background, background_gradient, None, None))


@formula_of("batch_norm_statistics")
def batch_norm_statistics(features, background, batch_splits, cells, running_mean, running_variance, momentum):
    """(2, C) float64: mean and variance of the sites and, once for each inactive cell, the background.  In place:
    running = (1 - momentum) * running + momentum * found, with a variance that divides by count - 1."""
    rows, times = _with_background(features, background, batch_splits, cells)
    mean = (times * rows).sum(axis=0) / times.sum()
    variance = (times * (rows - mean) ** 2).sum(axis=0) / times.sum()
    if running_mean is not None:
        running_mean[:] = (1 - momentum) * running_mean + momentum * mean
        running_variance[:] = (1 - momentum) * running_variance + momentum * variance * times.sum() / (times.sum() - 1)
    return np.stack([mean, variance])


def _with_background(features, background, batch_splits, cells) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N+G, C) of the sites and of the background, in float64, and how many cells hold each (N+G, 1)."""
    rows = features if background is None else np.concatenate([features, background])
    times = np.ones((len(rows), 1))
    if len(rows) > len(features):
        inactive = cells - np.diff(batch_splits) if cells else np.zeros(1)
        times[len(features) :, 0] = inactive if len(background) == len(inactive) else inactive.sum()
    return rows.astype(np.float64), times


@formula_of("batch_norm_forward")
def batch_norm_forward(features, background, moments, weight, bias, eps):
    """(x - mean) / sqrt(variance + eps) * weight + bias; with a background, both."""
    rows, _ = _with_background(features, background, None, 0)
    out = ((rows - moments[0]) / np.sqrt(moments[1] + eps) * weight + bias).astype(features.dtype)
    return out if background is None else (out[: len(features)], out[len(features) :])


@formula_of("batch_norm_backward")
def batch_norm_backward(features, background, gradient, background_gradient, batch_splits, cells, moments, weight, eps,
                        of_batch):
    """Gradients of features (N, C) and background (G, C); (2, C) float64, the gradients of bias and weight."""
    rows, times = _with_background(features, background, batch_splits, cells)
    gradients, _ = _with_background(gradient, background_gradient, None, 0)
    inverse = 1 / np.sqrt(moments[1] + eps)
    normalised = (rows - moments[0]) * inverse
    sums = np.stack([gradients.sum(axis=0), (gradients * normalised).sum(axis=0)])
    if of_batch:  # mean and variance depend on each row, as many times as it occurs
        gradients -= times * (sums[0] + normalised * sums[1]) / times.sum()
    out = (gradients * weight * inverse).astype(features.dtype)
    return out[: len(features)], None if background is None else out[len(features) :], sums


@formula_of("sample_norm_forward")
def sample_norm_forward(features, background, batch_splits, cells, weight, bias, groups, eps):
    """Results (N, C), (B, C); (2, B, groups) float64: mean and variance of a sample's cells, or 0 and 1 of none."""
    width, below = len(weight) // groups, []
    out, moments = np.empty_like(features), np.zeros((2, len(batch_splits) - 1, groups))
    for b, (start, stop, rows, times) in enumerate(_samples(features, background, batch_splits, cells)):
        grouped, times, count = rows.reshape(-1, groups, width), times[:, :, None], times.sum() * width
        mean = (times * grouped).sum(axis=(0, 2)) / count
        variance = (times * (grouped - mean[:, None]) ** 2).sum(axis=(0, 2)) / count
        moments[:, b] = (mean, variance) if count else np.array([[0], [1]])
        normalised = (grouped - mean[:, None]) / np.sqrt(variance + eps)[:, None]
        result = (normalised.reshape(rows.shape) * weight + bias).astype(features.dtype)
        out[start:stop], below = result[: stop - start], [*below, *result[stop - start :]]
    return out, None if background is None else np.reshape(below, (-1, len(weight))), moments


def _samples(features, background, batch_splits, cells) -> Iterator[tuple]:
    """Each sample's first row, its end, its rows and the background's in float64, and how many cells hold each."""
    for b, (start, stop) in enumerate(pairwise(batch_splits)):
        own = None if background is None else background[[b % len(background)]]
        rows = _with_background(features[start:stop], own, np.array([start, stop]), max(cells, stop - start, 1))
        yield start, stop, *rows


@formula_of("sample_norm_backward")
def sample_norm_backward(features, background, gradient, background_gradient, batch_splits, cells, moments, weight,
                         eps):
    """Gradients of features (N, C) and background (G, C); (2, C) float64, the gradients of bias and weight."""
    out, sums = np.empty_like(features), np.zeros((2, len(weight)))
    to_background = None if background is None else np.zeros(background.shape)
    for b, (start, stop, rows, times) in enumerate(_samples(features, background, batch_splits, cells)):
        own = None if background is None else background_gradient[[b]]
        gradients = _with_background(gradient[start:stop], own, None, 0)[0]
        back, own_sums = _through_groups(rows, gradients, times, *moments[:, b], weight, eps)
        sums += own_sums
        out[start:stop] = back[: stop - start]
        if background is not None:
            to_background[b % len(background)] += back[-1]
    return out, None if background is None else to_background.astype(features.dtype), sums


def _through_groups(rows, gradients, times, mean, variance, weight, eps) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of rows (n, C), each held by so many cells, that share mean and variance (groups,); (2, C)."""
    by_channel = partial(np.repeat, repeats=rows.shape[1] // len(mean), axis=-1)
    inverse = by_channel(1 / np.sqrt(variance + eps))
    normalised = (rows - by_channel(mean)) * inverse
    sums, slopes = np.stack([gradients, gradients * normalised]).sum(axis=1), gradients * weight
    count = max(times.sum(), 1) * rows.shape[1] // len(mean)
    share, slope = (by_channel(values.sum(axis=0).reshape(len(mean), -1).sum(axis=1) / count)
                    for values in (slopes, slopes * normalised))
    return (slopes - times * (share + normalised * slope)) * inverse, sums


@formula_of("row_norm_forward")
def row_norm_forward(features, weight, bias, groups, eps, with_moments):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with those of each group of channels in a row; (2, groups, N)
    float64 or None: mean and 1 / sqrt(variance + eps)."""
    grouped = features.reshape(len(features), groups, features.shape[1] // groups).astype(np.float64)
    moments = np.array([grouped.mean(axis=2).T, 1 / np.sqrt(grouped.var(axis=2).T + eps)], order="C")
    out = (_row_groups(features, moments) * weight + bias).astype(features.dtype)
    return out, moments if with_moments else None


def _row_groups(features, moments) -> np.ndarray:
    """Rows (N, C) normalised in float64."""
    mean, inverse = (np.repeat(values.T, features.shape[1] // len(values), axis=1) for values in moments)
    return (features - mean) * inverse


@formula_of("row_norm_backward")
def row_norm_backward(features, gradient, moments, weight):
    """The gradient of features (N, C); (2, C) float64, the gradients of bias and weight."""
    normalised, slopes = _row_groups(features, moments), gradient.astype(np.float64) * weight
    (_, groups, rows), width = moments.shape, features.shape[1] // moments.shape[1]
    share, slope = (np.repeat(values.reshape(rows, groups, width).mean(axis=2), width, axis=1)
                    for values in (slopes, slopes * normalised))
    inverse = np.repeat(moments[1].T, width, axis=1)
    out = ((slopes - share - normalised * slope) * inverse).astype(features.dtype)
    return out, np.stack([gradient, gradient * normalised]).sum(axis=1, dtype=np.float64)


# ---- runs of rows, rows of samples ---------------------------------------------------------------------------------

@formula_of("segment_sum")
def segment_sum(values, splits):
    """(S, C): the sum of each run of rows, in float64 and rounded once; without splits, the sum of all rows."""
    splits = [0, len(values)] if splits is None else splits
    out = np.zeros((len(splits) - 1, values.shape[1]))
    for s, (start, stop) in enumerate(pairwise(splits)):
        out[s] = values[start:stop].sum(axis=0, dtype=np.float64)
    return out.astype(values.dtype)


@formula_of("segment_max")
def segment_max(values, splits):
    """((S, C), (S, C) int64): the maximum of each run of rows, NaN wins, and its first row; -inf and -1 if empty."""
    out = np.full((len(splits) - 1, values.shape[1]), -np.inf, values.dtype)
    rows = np.full(out.shape, -1, np.int64)
    for s, (start, stop) in enumerate(pairwise(splits)):
        if start < stop:
            out[s], rows[s] = values[start:stop].max(axis=0), start + values[start:stop].argmax(axis=0)
    return out, rows


@formula_of("cell_sums")
def cell_sums(features, sums, splits, background, cells, mean):
    """(B, C): (sums[b] + (cells - sites of b) * background) / divisor: that of a mean is the number of cells summed."""
    sites = np.diff(splits)[:, None]
    inactive = 0 if background is None else cells - sites
    total = sums if background is None else sums + inactive * background
    return (total / (np.maximum(1, sites + inactive) if mean else 1)).astype(features.dtype)


@formula_of("cell_sums_backward")
def cell_sums_backward(gradient, splits, coordinates, background_rows, cells, mean):
    """(N, C): gradient[b] / divisor at the sites of b; (G, C): (cells - sites of b) times as much, summed if G is 1."""
    sites = np.diff(splits)[:, None]
    inactive = cells - sites if background_rows else 0
    share = (gradient / (np.maximum(1, sites + inactive) if mean else 1)).astype(gradient.dtype)
    of_samples = (share * inactive).astype(gradient.dtype)
    to_background = of_samples.sum(axis=0, keepdims=True) if background_rows == 1 else of_samples
    return share[coordinates[:, 0]], to_background if background_rows else None


def of_sites(rows: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """(N, C): for each site the row of its sample; one row serves all samples."""
    return rows if len(rows) == 1 else rows[coordinates[:, 0]]


formula_of("add_sample_rows")(lambda values, rows, coordinates: values + of_sites(rows, coordinates))
formula_of("subtract_sample_rows")(lambda values, rows, coordinates: values - of_sites(rows, coordinates))
formula_of("multiply_sample_rows")(lambda values, rows, coordinates: values * of_sites(rows, coordinates))


# ---- rows on the union of two sets of sites --------------------------------------------------------------------------

def on_union(values, rows, background, coordinates):
    """(M, C): the values at their rows of the union, elsewhere the background of the sample, or zeros."""
    if rows is None:
        return values
    out = np.zeros((len(coordinates), values.shape[1]), values.dtype)
    out += 0 if background is None else of_sites(background, coordinates)
    out[rows] = values
    return out


@formula_of("concatenate_rows")
def concatenate_rows(x, y, x_rows, y_rows, x_background, y_background, coordinates):
    """(M, C + E): x and y side by side."""
    return np.concatenate([on_union(x, x_rows, x_background, coordinates),
                           on_union(y, y_rows, y_background, coordinates)], axis=1)


@formula_of("add_rows")
def add_rows(x, y, x_rows, y_rows, x_background, y_background, coordinates):
    """(M, C)"""
    return on_union(x, x_rows, x_background, coordinates) + on_union(y, y_rows, y_background, coordinates)


@formula_of("split_rows")
def split_rows(values, x_rows, y_rows, channels):
    """(X, channels) and (Y, the others)"""
    x, y = (values if rows is None else values[rows] for rows in (x_rows, y_rows))
    return x[:, :channels].copy(), y[:, channels:].copy()


# ---- points and the cells that they lie in -------------------------------------------------------------------------

@formula_of("point_keys")
def point_keys(points, samples, origin, voxel_size, spatial_size, batch_size):
    """(P,) int64 keys of the cells; OUTSIDE, NOT_FINITE or NO_SAMPLE in place of one that does not exist."""
    at = (points - origin) / voxel_size
    return keys_around(at, np.zeros((1, len(origin))), samples, spatial_size, batch_size)[:, 0]


def keys_around(at, corners, samples, spatial_size, batch_size) -> np.ndarray:
    """(P, K) int64 keys of the cells `corners` (K, D) further than those at (P, D)."""
    cells = np.floor(at)[:, None] + corners
    inside = ((cells >= 0) & (cells < spatial_size)).all(axis=2)
    samples = np.zeros(len(at), np.int64) if samples is None else samples
    keys = np.full(inside.shape, contracts.OUTSIDE, np.int64)
    keys[inside] = keys_of(samples[np.nonzero(inside)[0]], cells[inside].astype(np.int64), spatial_size)
    keys[~np.isfinite(at).all(axis=1)] = contracts.NOT_FINITE
    keys[(samples < 0) | (samples >= batch_size)] = contracts.NO_SAMPLE
    return keys


@formula_of("point_rows")
def point_rows(points, samples, origin, voxel_size, spatial_size, batch_size, keys, table_keys, table_rows, trilinear):
    """(P, K) int32 rows of the sites in K = 1 or 2^D cells, -1, NOT_FINITE or NO_SAMPLE; trilinear, their weights."""
    at = (points - origin) / voxel_size - (0.5 if trilinear else 0)
    corners = np.array(list(product(range(1 + trilinear), repeat=len(origin))))
    wanted = keys_around(at, corners, samples, spatial_size, batch_size)
    rows = np.searchsorted(keys, wanted)
    rows[wanted != np.append(keys, contracts.OUTSIDE)[rows]] = contracts.OUTSIDE
    beyond = (at - np.floor(at))[:, None]
    return (np.where(wanted < contracts.OUTSIDE, wanted, rows).astype(np.int32),
            np.where(corners, beyond, 1 - beyond).prod(axis=2) if trilinear else None)


@formula_of("sort_keys")
def sort_keys(keys, limit):
    """(M,) int64 keys in order, and the entries (M,) int64 that they come from."""
    members = np.argsort(keys, kind="stable")
    return keys[members], members


@formula_of("interpolate_rows")
def interpolate_rows(features, rows, weights, background, samples):
    """(P, C) sum over k of weights[p, k] features[rows[p, k]], the background, or zeros, where the row is -1."""
    background = np.zeros((1, features.shape[1]), features.dtype) if background is None else background
    own = background[samples if len(background) != 1 else np.zeros(len(rows), np.int64)]
    taken = np.repeat(own[:, None], rows.shape[1], axis=1)
    taken[rows >= 0] = features[rows[rows >= 0]]
    return taken[:, 0] if weights is None else (taken * weights[..., None]).sum(axis=1).astype(features.dtype)


@formula_of("group_sum")
def group_sum(values, members, splits, weights, mean):
    """(S, C) sum over the members m of a group of weights[m] values[m // K], in float64; if mean, by their number."""
    members, sizes = members[splits[0] : splits[-1]], np.diff(splits)
    corners, weights = (1, np.ones(len(values))) if weights is None else (weights.shape[1], weights.ravel())
    total = np.zeros((len(sizes), values.shape[1]))
    np.add.at(total, np.repeat(np.arange(len(sizes)), sizes), values[members // corners] * weights[members][:, None])
    return (total / np.maximum(sizes, 1)[:, None] if mean else total).astype(values.dtype)


@formula_of("group_max")
def group_max(values, members, splits):
    """(S, C) largest of the members' values, or NaN, and the first member that has it; -inf and -1 if there is none."""
    out = np.full((len(splits) - 1, values.shape[1]), -np.inf, values.dtype)
    chosen = np.full(out.shape, -1, np.int64)
    for s, (start, stop) in enumerate(pairwise(splits.tolist())):
        if start < stop:
            chosen[s] = members[start + values[members[start:stop]].argmax(axis=0)]
            out[s] = values[chosen[s], np.arange(values.shape[1])]
    return out, chosen


# ---- losses and the step -------------------------------------------------------------------------------------------

@formula_of("softmax_cross_entropy")
def softmax_cross_entropy(logits, labels, with_gradient):
    """loss () = mean of log(sum of e^logits) - logits[label], in float64; NaN for a label that is not a class.  Also
    (loss, number of rows whose label is the first of the largest logits), and the gradient (B, C) if with_gradient."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_share = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    labelled = labels[:, None] == np.arange(logits.shape[1])
    losses = np.where(labelled.any(axis=1), -np.where(labelled, log_share, 0).sum(axis=1), np.nan)
    loss, right = np.array(losses.sum() / max(1, len(logits)), logits.dtype), (logits.argmax(axis=1) == labels).sum()
    gradient = ((np.exp(log_share) - labelled) / max(1, len(logits))).astype(logits.dtype)
    return loss, np.array([loss, right], np.float64), gradient if with_gradient else None


@formula_of("triplet_loss")
def triplet_loss(anchor, positive, negative, margin, distance, with_gradient):
    """Mean of max(0, margin + d(a, p) - d(a, n)); (it, number of terms above 0); gradient (3, T, C) by a, p, n."""
    a, p, n = (rows.astype(np.float64) for rows in (anchor, positive, negative))
    (near, near_by_a, near_by_p), (far, far_by_a, far_by_n) = _distance(a, p, distance), _distance(a, n, distance)
    terms = margin + near - far
    counted = ~(terms <= 0)  # NaN counts
    gradient = np.where(counted, np.stack([near_by_a - far_by_a, near_by_p, -far_by_n]), 0) / max(1, len(a))
    loss = np.array(terms[counted].sum() / max(1, len(a)), anchor.dtype)
    figures = np.array([loss, (terms > 0).sum()], np.float64)
    return loss, figures, gradient.astype(anchor.dtype) if with_gradient else None


def _distance(a: np.ndarray, b: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (T, 1) of rows and their gradients by a and by b (T, C); see the formulas in losses/triplet_loss.py."""
    length = partial(np.hypot.reduce, axis=1, keepdims=True)  # no square over- or underflows
    if distance == contracts.COSINE:
        of_a, of_b = length(a), length(b)
        u, v, known = a / of_a, b / of_b, (of_a != 0) & (of_b != 0)
        d = np.where(known, length(u - v) ** 2 / 2, 1)
        return d, np.where(known, (u - v - d * u) / of_a, 0), np.where(known, (v - u - d * v) / of_b, 0)
    d = length(a - b)
    by_a = np.where(d != 0, (a - b) / d, 0) if distance == contracts.L2 else 2 * (a - b)
    return d if distance == contracts.L2 else d**2, by_a, -by_a


@formula_of("scale_gradient")
def scale_gradient(gradient, factor):
    """gradient *= factor, in place."""
    gradient *= factor


@formula_of("sgd_step")
def sgd_step(parameters, gradients, velocities, masters, lr, momentum, dampening, nesterov, weight_decay, loss_scale):
    """In place v = momentum v + (1 - dampening) g, parameter -= lr v; Nesterov: lr ((1 - dampening) g + momentum v)."""
    for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        step = (gradient / loss_scale + weight_decay * parameter) * (1 if velocities is None else 1 - dampening)
        if velocities is not None:
            velocities[i][:] = momentum * velocities[i] + step
            step = step + momentum * velocities[i] if nesterov else velocities[i]
        parameter -= lr * step


@formula_of("adam_step")
def adam_step(parameters, gradients, means, squares, maxima, masters, lr, beta1, beta2, eps, weight_decay, decoupled,
              steps, loss_scale):
    """In place; decoupled, the decay is taken off first.  With maxima, the largest v so far takes its place."""
    for i, (parameter, gradient, m, v) in enumerate(zip(parameters, gradients, means, squares, strict=True)):
        g = gradient / loss_scale + (0 if decoupled else weight_decay) * parameter
        m[:], v[:] = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        v = v if maxima is None else np.maximum(v, maxima[i], out=maxima[i])
        parameter *= 1 - (lr * weight_decay if decoupled else 0)
        parameter -= lr * (m / (1 - beta1**steps)) / (np.sqrt(v / (1 - beta2**steps)) + eps)


# ---- voxelization: integers on a lattice of so many steps to a cell ------------------------------------------------

@formula_of("voxelize_triangles")
def voxelize_triangles(vertices, faces, spatial_size):
    """((n, 3) int32 cells that a triangle meets, row-major; how many more lie outside the grid).  A triangle and a
    closed cube share no point if, and only if, their shadows on one of 13 axes are apart: the 3 of the grid, its
    normal, and the products of its edges with those 3.  A cube around each triangle is halved down to cells."""
    corners = vertices[faces]
    first, last = corners.min(axis=1) // contracts.LATTICE, corners.max(axis=1) // contracts.LATTICE
    middle = (first + last) // 2
    corners = corners - contracts.LATTICE * middle[:, None]  # from the triangle's middle cell: all products fit 64 bits
    edges = np.roll(corners, -1, axis=1) - corners
    axes = [np.cross(edges[:, 0], edges[:, 1])]
    axes += [np.cross(edges[:, e], one) for e in range(3) for one in np.eye(3, dtype=np.int64)]
    shadows = [(axis, (corners * axis[:, None]).sum(axis=2)) for axis in axes]
    face, box = np.arange(len(faces)), first - middle  # cubes of `side` cells, from `box` on, each with its triangle
    levels = int((last - first).max(initial=0)).bit_length()
    for side in (2**level for level in reversed(range(levels))):
        halves = side * np.array(list(product((0, 1), repeat=3)))
        face, box = np.repeat(face, 8), (box[:, None] + halves).reshape(-1, 3)
        meets, half = (box <= (last - middle)[face]).all(axis=1), contracts.LATTICE * side // 2
        for axis, at in shadows:
            centre = np.einsum("nd,nd->n", contracts.LATTICE * box + half, axis[face])
            reach = half * np.abs(axis).sum(axis=1)
            meets &= ((at.min(axis=1) - reach)[face] <= centre) & (centre <= (at.max(axis=1) + reach)[face])
        face, box = face[meets], box[meets]
    cells = np.unique(middle[face] + box, axis=0)
    inside = ((cells >= 0) & (cells < spatial_size)).all(axis=1)
    return cells[inside].astype(np.int32), len(cells) - int(inside.sum())


@formula_of("fill_solid")
def fill_solid(coordinates, spatial_size):
    """(n, 3) int32: the cells, and those from which no path over faces of inactive cells leads to the border."""
    if not len(coordinates):
        return coordinates.copy()
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    outside = np.pad(np.zeros(high - low + 1, bool), 1, constant_values=True)  # one cell around them all
    inactive = np.ones(outside.shape, bool)
    inactive[tuple((coordinates - low + 1).T)] = False
    reached = 0
    while reached < (reached := int(outside.sum())):
        for axis, step in product(range(3), (-1, 1)):
            outside |= np.roll(outside, step, axis) & inactive  # nothing comes around: the border is outside
    return (np.argwhere(~outside) + low - 1).astype(np.int32)


@formula_of("voxelize_meshes")
def voxelize_meshes(vertices, vertex_splits, faces, face_splits, placements, spatial_size, render_size, fill):
    """((n,) int64 sorted keys of the cells that the meshes meet, (S,) int64 how many lie outside the grid)."""
    keys, dropped = [np.zeros(0, np.int64)], np.zeros(len(placements), np.int64)
    for s in np.flatnonzero(np.diff(face_splits)).tolist():  # a mesh without faces meets no cell
        own, own_faces = vertices[vertex_splits[s] : vertex_splits[s + 1]], faces[face_splits[s] : face_splits[s + 1]]
        placed = placements[s].reshape(7, 3)  # rotation, affine and shift
        try:
            lattice = place(own, spatial_size, render_size, placed[:3], placed[3:6], placed[6])
            cells, dropped[s] = launch("voxelize_triangles", lattice, own_faces, spatial_size, backend=REFERENCE)
        except ValueError as error:
            raise contracts.MeshFault(s, error) from error
        cells = fill_solid(cells, spatial_size) if fill else cells
        keys.append(keys_of(np.full(len(cells), s), cells, spatial_size))
    return np.concatenate(keys), dropped
