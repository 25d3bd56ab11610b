"""Every kernel as its formula, in NumPy alone: the specification that the fast backends are tested against.

`sn.set_backend("reference")`, or SPARSENET_BACKEND=reference, runs whole networks on it.  It is slow and short: one
function per kernel, no threads, nothing compiled, so a debugger can step through a whole training step.  It promises
values, not bits.  Letters: N input sites, M output sites, K kernel offsets, P pairs, B samples, C channels,
D dimensions.  An entry -1 of the neighbours is an inactive cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from itertools import pairwise, product
from math import prod

import numpy as np

from sparsenet.backend import REFERENCE
from sparsenet.kernels.contracts import COSINE, L2, LATTICE, NO_SAMPLE, NOT_FINITE, OUTSIDE, MeshFault
from sparsenet.kernels.hash_table import EMPTY, MIX, HashTable, capacity_for
from sparsenet.kernels.table import find, launch
from sparsenet.kernels.voxels import place


def formula_of(*kernels: str, reads: tuple[str, ...] = ()) -> Callable[[Callable], Callable]:
    """Decorator: the function is the specification of these kernels, which read those views of a rulebook."""

    def register(function: Callable) -> Callable:
        @wraps(function)
        def quiet(*arguments):
            with np.errstate(all="ignore"):  # infinity and NaN pass without a warning, as on the other backends
                return function(*arguments)

        for kernel in kernels:
            find(kernel).implementation(REFERENCE)(quiet)
            find(kernel).reads(REFERENCE)(lambda *_: reads)
        return function

    return register


# ---- sites -------------------------------------------------------------------------------------------------------


@formula_of("site_coordinates")
def site_coordinates(keys, spatial_size):
    """(N, 1+D) int32: a key is the row-major index of [batch, x, y, ...]."""
    columns = [keys]
    for side in reversed(spatial_size):
        columns[:1] = np.divmod(columns[0], side)
    return np.stack(columns, axis=1).astype(np.int32)


def keys_of(batch: np.ndarray, cells: np.ndarray, sides: tuple[int, ...]) -> np.ndarray:
    """(N,) int64 keys of cells (N, D) in grids `batch` (N,)."""
    keys = batch.astype(np.int64)
    for axis, side in enumerate(sides):
        keys = keys * side + cells[:, axis]
    return keys


@formula_of("hash_insert")
def hash_insert(keys, check):
    """Each key in the first free slot from its home on: `table_keys` (T,) int64, `table_rows` (T,) int32."""
    table_keys = np.full(capacity_for(len(keys)), EMPTY, np.int64)
    table_rows = np.full(len(table_keys), -1, np.int32)
    for row, key in enumerate(keys.tolist()):
        for slot in probed_slots(key, len(table_keys)):
            if table_keys[slot] == key:
                raise ValueError(f"hash_insert: key {key} of row {row} occurs twice")
            if table_keys[slot] == EMPTY:
                table_keys[slot], table_rows[slot] = key, row
                break
    return HashTable(table_keys, table_rows)


@formula_of("hash_lookup")
def hash_lookup(table_keys, table_rows, queries):
    """(Q,) int32: the row of each key, -1 if an empty slot comes before it."""
    rows = np.full(len(queries), -1, np.int32)
    for i, key in enumerate(queries.tolist()):
        for slot in probed_slots(key, len(table_keys)):
            if table_keys[slot] == EMPTY or key < 0:
                break
            if table_keys[slot] == key:
                rows[i] = table_rows[slot]
                break
    return rows


def probed_slots(key: int, capacity: int) -> Iterator[int]:
    """The home slot and all that follow it.  Home mixes key >> 3 and keeps the three low bits."""
    mixed = (key >> 3) * MIX % 2**64 >> 32
    home = mixed << 3 | key & 7
    return ((home + step) % capacity for step in range(capacity))


# ---- rulebooks: input cell = output cell * stride - padding + offset ---------------------------------------------


def offsets_of(kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> list[np.ndarray]:
    """The K offsets (D,) of a filter in cells, row-major."""
    return [np.multiply(offset, dilation) for offset in product(*map(range, kernel_size))]


def joined_outputs(coordinates, output_size, kernel_size, stride, padding, dilation) -> Iterator[tuple]:
    """For each offset, the sites (their rows) that it joins to a cell of the output grid, and those cells."""
    for offset in offsets_of(kernel_size, dilation):
        scaled = coordinates[:, 1:].astype(np.int64) + padding - offset  # output cell * stride
        cells = scaled // stride
        rows = np.flatnonzero(((scaled % stride == 0) & (cells >= 0) & (cells < output_size)).all(axis=1))
        yield rows, cells[rows]


@formula_of("output_keys")
def output_keys(keys, coordinates, batch_splits, sites, spatial_size, output_size, *axes):
    """(M,) int64: the keys of the cells that some offset joins to a site, each once, in order."""
    found = [keys_of(coordinates[rows, 0], cells, output_size)
             for rows, cells in joined_outputs(coordinates, output_size, *axes)]
    return np.unique(np.concatenate(found))


@formula_of("neighbours")
def neighbours(keys, coordinates, batch_splits, output_keys, output_coordinates, sites, spatial_size, output_size,
               kernel_size, stride, padding, dilation):
    """(M, K) int32: the row of the site at output * stride - padding + offset, or -1."""
    table = np.full((len(output_keys), prod(kernel_size)), -1, np.int32)
    for k, offset in enumerate(offsets_of(kernel_size, dilation)):
        cells = output_coordinates[:, 1:].astype(np.int64) * stride - padding + offset
        inside = np.flatnonzero(((cells >= 0) & (cells < spatial_size)).all(axis=1))
        wanted = keys_of(output_coordinates[inside, 0], cells[inside], spatial_size)
        rows = np.searchsorted(keys, wanted)
        found = np.append(keys, -1)[rows] == wanted
        table[inside[found], k] = rows[found]
    return table


@formula_of("transpose_neighbours")
def transpose_neighbours(neighbours, inputs):
    """(N, K) int32: the row of the output that offset k joins to input n, or -1."""
    transposed = np.full((inputs, neighbours.shape[1]), -1, np.int32)
    m, k = np.nonzero(neighbours >= 0)
    transposed[neighbours[m, k], k] = m
    return transposed


@formula_of("pairs")
def pairs(keys, coordinates, batch_splits, output_keys, rulebook, submanifold, *axes):
    """((P, 2) int32 rows [input, output], by offset and then by output; (K+1,) int64 where each offset's begin)."""
    table = rulebook.neighbours
    k, m = np.nonzero(table.T >= 0)
    splits = np.searchsorted(k, np.arange(table.shape[1] + 1))
    return np.stack([table[m, k], m], axis=1).astype(np.int32), splits.astype(np.int64)


@formula_of("transposed_of_pairs")
def transposed_of_pairs(pairs, pair_splits, inputs):
    """(N, K) int32, as `transpose_neighbours`."""
    transposed = np.full((inputs, len(pair_splits) - 1), -1, np.int32)
    for k, n, m in by_offset(pairs, pair_splits):
        transposed[n, k] = m
    return transposed


@formula_of("pair_count")
def pair_count(coordinates, spatial_size, output_size, *axes):
    """P: how many pairs of a site and an output there are, over all offsets."""
    return sum(len(rows) for rows, _ in joined_outputs(coordinates, output_size, *axes))


def by_offset(pairs: np.ndarray, splits: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each offset k with the rows n of the inputs and m of the outputs that it joins; within one offset no row comes
    twice."""
    for k, (start, stop) in enumerate(pairwise(splits)):
        yield k, pairs[start:stop, 0], pairs[start:stop, 1]


# ---- convolution, over the pairs (n, m) of each offset k of a rulebook -----------------------------------------------


@formula_of("convolution_forward", "convolution_forward_by_row", reads=("pairs",))
def convolution_forward(features, weights, rulebook, constant, *slope):
    """out[m] = constant + sum over (n, m) of each k of features[n] @ weights[k], through a leaky ReLU."""
    out = np.zeros((rulebook.shape[1], weights.shape[2]), features.dtype)
    for k, n, m in by_offset(rulebook.pairs, rulebook.pair_splits):
        out[m] += features[n] @ weights[k]
    out = out if constant is None else out + constant
    return out if slope in ((), (None,)) else leaky_relu_forward(out, *slope, None)


@formula_of("convolution_input_gradient", reads=("pairs",))
def convolution_input_gradient(gradient, weights, rulebook, turned):
    """out[n] = sum over (n, m) of each k of gradient[m] @ weights[k]^T."""
    out = np.zeros((rulebook.shape[0], weights.shape[1]), gradient.dtype)
    for k, n, m in by_offset(rulebook.pairs, rulebook.pair_splits):
        out[n] += gradient[m] @ weights[k].T
    return out


@formula_of("convolution_weight_gradient", reads=("pairs",))
def convolution_weight_gradient(features, gradient, rulebook, background, constant_gradient):
    """out[k] = background^T constant_gradient + sum over (n, m) of k of features[n]^T @ gradient[m]."""
    out = np.zeros((rulebook.shape[2], features.shape[1], gradient.shape[1]), features.dtype)
    for k, n, m in by_offset(rulebook.pairs, rulebook.pair_splits):
        out[k] = features[n].T @ gradient[m]
    return out if background is None else out + np.outer(background, constant_gradient)


@formula_of("matmul", "matmul_by_row")
def matmul(a, b):
    """(M, N) = a @ b."""
    return a @ b


# ---- max-pooling and activation ------------------------------------------------------------------------------------


@formula_of("max_pool_forward", reads=("neighbours",))
def max_pool_forward(features, background, neighbours, output_coordinates, relative):
    """(out, argmax int16): the largest value of each window, and the first offset that has it; NaN wins, of several the
    last.  The background competes at the first inactive offset; without one, inactive cells are skipped, and a window
    without a site gives 0 and argmax 0."""
    (outputs, offsets), channels = neighbours.shape, features.shape[1]
    out, argmax = np.zeros((outputs, channels), features.dtype), np.zeros((outputs, channels), np.int16)
    inactive, seen = neighbours < 0, np.zeros((outputs, 1), bool)
    values, rows = features, neighbours
    if background is not None:  # its rows follow those of the sites
        sample = output_coordinates[:, :1] if len(background) > 1 else 0
        values, rows = np.concatenate([features, background]), np.where(inactive, len(features) + sample, neighbours)
    for k in range(offsets):
        skipped = inactive[:, k] if background is None else inactive[:, k] & inactive[:, :k].any(axis=1)
        m = np.flatnonzero(~skipped)
        value = values[rows[m, k]]
        wins = ~seen[m] | (value > out[m]) | np.isnan(value)
        out[m], argmax[m] = np.where(wins, value, out[m]), np.where(wins, k, argmax[m])
        seen[m] = True
    relative = relative and background is not None
    return (subtract_sample_rows(out, background, output_coordinates) if relative else out), argmax


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
            rows[s] = start + values[start:stop].argmax(axis=0)
            out[s] = values[start:stop].max(axis=0)
    return out, rows


@formula_of("add_sample_rows")
def add_sample_rows(values, rows, coordinates):
    """values[n] + rows[sample of n]; one row serves all samples."""
    return values + (rows if len(rows) == 1 else rows[coordinates[:, 0]])


@formula_of("subtract_sample_rows")
def subtract_sample_rows(values, rows, coordinates):
    """values[n] - rows[sample of n]."""
    return add_sample_rows(values, -rows, coordinates)


@formula_of("multiply_sample_rows")
def multiply_sample_rows(values, rows, coordinates):
    """values[n] * rows[sample of n]."""
    return values * (rows if len(rows) == 1 else rows[coordinates[:, 0]])


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
    keys = np.full(inside.shape, OUTSIDE, np.int64)
    keys[inside] = keys_of(samples[np.nonzero(inside)[0]], cells[inside].astype(np.int64), spatial_size)
    keys[~np.isfinite(at).all(axis=1)] = NOT_FINITE
    keys[(samples < 0) | (samples >= batch_size)] = NO_SAMPLE
    return keys


@formula_of("point_rows")
def point_rows(points, samples, origin, voxel_size, spatial_size, batch_size, keys, table_keys, table_rows, trilinear):
    """(P, K) int32 rows of the sites in these cells, -1 if there is none, or NOT_FINITE or NO_SAMPLE; K = 1, or
    trilinear 2^D cells, a bit of k for each axis, the last axis lowest, and their weights (P, K) float64."""
    at = (points - origin) / voxel_size - (0.5 if trilinear else 0)
    corners = np.array(list(product(range(1 + trilinear), repeat=len(origin))))
    wanted = keys_around(at, corners, samples, spatial_size, batch_size)
    rows = np.searchsorted(keys, wanted)
    rows[wanted != np.append(keys, OUTSIDE)[rows]] = OUTSIDE
    beyond = (at - np.floor(at))[:, None]
    return (np.where(wanted < OUTSIDE, wanted, rows).astype(np.int32),
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
    """(S, C) sum over the members m of each group of weights[m] values[m // K], in float64; over their number if mean.
    An empty group has zeros."""
    members, sizes = members[splits[0] : splits[-1]], np.diff(splits)
    corners, weights = (1, np.ones(len(values))) if weights is None else (weights.shape[1], weights.ravel())
    total = np.zeros((len(sizes), values.shape[1]))
    np.add.at(total, np.repeat(np.arange(len(sizes)), sizes), values[members // corners] * weights[members][:, None])
    return (total / np.maximum(sizes, 1)[:, None] if mean else total).astype(values.dtype)


@formula_of("group_max")
def group_max(values, members, splits):
    """(S, C) largest of the members' values, and the first member that has it, (S, C) int64; NaN is the largest.  An
    empty group has -inf, and -1."""
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
    (batch, classes), rows = logits.shape, np.arange(len(logits))
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    known = (labels >= 0) & (labels < classes)
    label = np.where(known, labels, 0)
    losses = np.where(known, np.log(total[:, 0]) - shifted[rows, label], np.nan)
    right = logits.argmax(axis=1) == labels
    gradient = np.exp(shifted) / total
    gradient[rows[known], label[known]] -= 1
    gradient = (gradient / max(1, batch)).astype(logits.dtype)
    return *_mean(losses.sum(), right.sum(), batch, logits.dtype), gradient if with_gradient else None


def _mean(total: float, count: int, rows: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The loss () and its figures (2,)."""
    loss = np.array(total / max(1, rows), dtype)
    return loss, np.array([loss, count], np.float64)


@formula_of("triplet_loss")
def triplet_loss(anchor, positive, negative, margin, distance, with_gradient):
    """loss () = mean of max(0, margin + d(anchor, positive) - d(anchor, negative)), in float64.  Also (loss,
    number of terms above 0), and the gradient (3, T, C) by anchor, positive and negative if with_gradient."""
    a, p, n = (rows.astype(np.float64) for rows in (anchor, positive, negative))
    (near, near_by_a, near_by_p), (far, far_by_a, far_by_n) = _distance(a, p, distance), _distance(a, n, distance)
    terms = margin + near - far
    counted = ~(terms <= 0)  # NaN counts
    gradient = np.stack([near_by_a - far_by_a, near_by_p, -far_by_n])
    gradient = (np.where(counted[:, None], gradient, 0) / max(1, len(a))).astype(anchor.dtype)
    mean = _mean(terms[counted].sum(), (terms > 0).sum(), len(a), anchor.dtype)
    return *mean, gradient if with_gradient else None


def _distance(a: np.ndarray, b: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (T,) of rows and their gradients by a and by b (T, C); see the formulas in losses/triplet_loss.py."""
    if distance == COSINE:
        (u, of_a), (v, of_b) = _unit(a), _unit(b)
        known = (of_a != 0) & (of_b != 0)
        d = np.where(known, ((u - v) ** 2).sum(axis=1, keepdims=True) / 2, 1)
        by_a = _over(np.where(known, u - v - d * u, 0), of_a)
        return d[:, 0], by_a, _over(np.where(known, v - u - d * v, 0), of_b)
    difference = a - b
    d = (difference**2).sum(axis=1, keepdims=True)
    if distance == L2:
        d = np.sqrt(d)
    by_a = _over(difference, d) if distance == L2 else 2 * difference
    return d[:, 0], by_a, -by_a


def _unit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows divided by their lengths, and the lengths (T, 1); zeros stay.  No square over- or underflows."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    scaled = _over(rows, largest)
    length = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    return _over(scaled, length), largest * length


def _over(rows: np.ndarray, divisors: np.ndarray) -> np.ndarray:
    """rows / divisors, 0 if the divisor is 0."""
    return np.divide(rows, divisors, out=np.zeros_like(rows), where=divisors != 0)


@formula_of("scale_gradient")
def scale_gradient(gradient, factor):
    """gradient *= factor, in place."""
    gradient *= factor


@formula_of("sgd_step")
def sgd_step(parameters, gradients, velocities, masters, lr, momentum, dampening, nesterov, weight_decay, loss_scale):
    """In place: v = momentum * v + (1 - dampening) * g, parameter -= lr * v, where g = gradient / loss_scale +
    weight_decay * parameter; with Nesterov's momentum, lr * ((1 - dampening) * g + momentum * v)."""
    for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        step = gradient / loss_scale + weight_decay * parameter
        if velocities is not None:
            step *= 1 - dampening
            velocities[i][:] = momentum * velocities[i] + step
            step = step + momentum * velocities[i] if nesterov else velocities[i]
        parameter -= lr * step


# ---- voxelization: integers on a lattice of so many steps to a cell ------------------------------------------------


@formula_of("voxelize_triangles")
def voxelize_triangles(vertices, faces, spatial_size):
    """((n, 3) int32 cells that a triangle meets, row-major; how many more lie outside the grid).

    A triangle and a closed box share no point if, and only if, their shadows on one of 13 axes are apart: the 3 of the
    grid, its normal, and the products of its edges with those 3.  Boxes that it meets are taken apart, down to cells.
    """
    corners = vertices[faces]
    first = corners.min(axis=1) // LATTICE
    extent = corners.max(axis=1) // LATTICE - first + 1
    corners = corners - LATTICE * first[:, None]  # from the triangle's first cell: all products fit 64 bits
    edges = np.roll(corners, -1, axis=1) - corners
    axes = [np.cross(edges[:, 0], edges[:, 1])]
    axes += [np.cross(edges[:, e], one) for e in range(3) for one in np.eye(3, dtype=np.int64)]
    shadows = [(axis, (corners * axis[:, None]).sum(axis=2)) for axis in axes]
    low = first.min(axis=0, initial=0)
    whole = tuple((first + extent).max(axis=0, initial=1) - low)
    face, box = np.arange(len(faces)), np.zeros_like(extent)  # boxes of `extent` cells, from the triangle's first on
    for side in (16, 4, 1):  # the 3 axes of the grid are in `extent`
        parent, index = _parts(-(-extent // side))
        face, box, extent = face[parent], box[parent] + side * index, np.minimum(side, extent[parent] - side * index)
        half = LATTICE * side // 2
        centre, meets = LATTICE * box + half, np.ones(len(box), bool)
        for axis, at in shadows:
            along, reach = np.einsum("nd,nd->n", centre, axis[face]), half * np.abs(axis).sum(axis=1)
            meets &= ((at.min(axis=1) - reach)[face] <= along) & (along <= (at.max(axis=1) + reach)[face])
        face, box, extent = face[meets], box[meets], extent[meets]
    cells = np.unique(np.ravel_multi_index(tuple((first[face] + box - low).T), whole))
    cells = np.stack(np.unravel_index(cells, whole), axis=1) + low
    inside = ((cells >= 0) & (cells < spatial_size)).all(axis=1)
    return cells[inside].astype(np.int32), len(cells) - int(inside.sum())


def _parts(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of sizes (n, 3) taken apart: for each part the row of its box, and its place in it (parts, 3)."""
    counts = sizes.prod(axis=1)
    box = np.repeat(np.arange(len(sizes)), counts)
    index = np.arange(len(box)) - np.repeat(np.cumsum(counts) - counts, counts)
    y, z = sizes[box, 1], sizes[box, 2]
    return box, np.stack([index // (y * z), index // z % y, index % z], axis=1)


@formula_of("fill_solid")
def fill_solid(coordinates, spatial_size):
    """(n, 3) int32: the cells, and those from which no path over faces of inactive cells leads to the border."""
    if not len(coordinates):
        return np.zeros((0, 3), np.int32)
    low = np.maximum(coordinates.min(axis=0) - 1, 0)  # beyond one cell around them all is outside
    high = np.minimum(coordinates.max(axis=0) + 1, np.array(spatial_size) - 1)
    empty = np.ones(tuple(high - low + 1), bool)
    empty[tuple((coordinates - low).T)] = False
    outside = empty.copy()
    outside[1:-1, 1:-1, 1:-1] = False
    reached = 0
    while reached < (reached := int(outside.sum())):
        for axis in range(3):
            slabs = np.moveaxis(outside, axis, 0).copy()
            grown = np.moveaxis(outside, axis, 0)  # writes to `outside`
            grown[1:] |= slabs[:-1]
            grown[:-1] |= slabs[1:]
            outside &= empty
    return (np.argwhere(~outside) + low).astype(np.int32)


@formula_of("voxelize_meshes")
def voxelize_meshes(vertices, vertex_splits, faces, face_splits, placements, spatial_size, render_size, fill):
    """((n,) int64 sorted keys of the cells that the meshes meet, (S,) int64 how many lie outside the grid)."""
    keys, dropped = [np.zeros(0, np.int64)], np.zeros(len(placements), np.int64)
    for s, placement in enumerate(placements):
        own_faces = faces[face_splits[s] : face_splits[s + 1]]
        if not len(own_faces):
            continue
        rotation, affine, (shift,) = (part.reshape(-1, 3) for part in np.split(placement, (9, 18)))
        own = vertices[vertex_splits[s] : vertex_splits[s + 1]]
        try:
            lattice = place(own, spatial_size, render_size, rotation, affine, shift)
            cells, dropped[s] = launch("voxelize_triangles", lattice, own_faces, spatial_size, backend=REFERENCE)
        except ValueError as error:
            raise MeshFault(s, error) from error
        cells = fill_solid(cells, spatial_size) if fill else cells
        keys.append(keys_of(np.full(len(cells), s), cells, spatial_size))
    return np.concatenate(keys), dropped
