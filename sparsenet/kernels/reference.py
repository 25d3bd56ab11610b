"""Every kernel as its formula, in NumPy alone: the specification that the fast backends are tested against.

`sn.set_backend("reference")`, or SPARSENET_BACKEND=reference, runs whole networks on it.  It is slow and short: one
function per kernel, no threads, nothing compiled, so a debugger can step through a whole training step.  It promises
values, not bits.  Letters: N input sites, M output sites, K kernel offsets, P pairs, B samples, C channels,
D dimensions.  An entry -1 of the neighbours is an inactive cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import pairwise, product
from math import prod

import numpy as np

from sparsenet.backend import REFERENCE
from sparsenet.kernels.contracts import COSINE, L2, LATTICE, MeshFault
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


@formula_of("matmul", "matmul_by_row")
def matmul(a, b):
    """(M, N) = a @ b."""
    return a @ b


# ---- max-pooling, activation, levels (both after a convolution), batch norm ------------------------------------------

@formula_of("max_pool_forward", reads=("neighbours",))
def max_pool_forward(features, background, neighbours, output_coordinates, relative):
    """(out, argmax int16): the largest value of each window, and the first offset that has it; NaN wins, of several the
    last.  The background competes at the first inactive offset; without one, inactive cells are skipped, and a window
    without a site gives 0 and argmax 0."""
    (outputs, offsets), counts = neighbours.shape, neighbours >= 0
    if background is not None:
        counts[np.arange(outputs), counts.argmin(axis=1)] = True  # the first inactive offset, or one that counts anyway
    below = np.zeros((1, features.shape[1]), features.dtype) if background is None else background
    sample = output_coordinates[:, :1] if len(below) > 1 else 0
    values, rows = np.concatenate([features, below]), np.where(neighbours < 0, len(features) + sample, neighbours)
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
    """loss () = mean of max(0, margin + d(anchor, positive) - d(anchor, negative)), in float64.  Also (loss,
    number of terms above 0), and the gradient (3, T, C) by anchor, positive and negative if with_gradient."""
    a, p, n = (rows.astype(np.float64) for rows in (anchor, positive, negative))
    (near, near_by_a, near_by_p), (far, far_by_a, far_by_n) = _distance(a, p, distance), _distance(a, n, distance)
    terms = margin + near - far
    counted = ~(terms <= 0)  # NaN counts
    gradient = np.where(counted, np.stack([near_by_a - far_by_a, near_by_p, -far_by_n]), 0) / max(1, len(a))
    loss = np.array(terms[counted].sum() / max(1, len(a)), anchor.dtype)
    gradient = gradient.astype(anchor.dtype) if with_gradient else None
    return loss, np.array([loss, (terms > 0).sum()], np.float64), gradient


def _distance(a: np.ndarray, b: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (T, 1) of rows and their gradients by a and by b (T, C); see the formulas in losses/triplet_loss.py."""
    length = partial(np.hypot.reduce, axis=1, keepdims=True)  # no square over- or underflows
    if distance == COSINE:
        of_a, of_b = length(a), length(b)
        u, v, known = a / of_a, b / of_b, (of_a != 0) & (of_b != 0)
        d = np.where(known, length(u - v) ** 2 / 2, 1)
        return d, np.where(known, (u - v - d * u) / of_a, 0), np.where(known, (v - u - d * v) / of_b, 0)
    d = length(a - b)
    by_a = np.where(d != 0, (a - b) / d, 0) if distance == L2 else 2 * (a - b)
    return d if distance == L2 else d**2, by_a, -by_a


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
    """((n, 3) int32 cells that a triangle meets, row-major; how many more lie outside the grid).  A triangle and a
    closed cube share no point if, and only if, their shadows on one of 13 axes are apart: the 3 of the grid, its
    normal, and the products of its edges with those 3.  A cube around each triangle is halved down to cells."""
    corners = vertices[faces]
    first, last = corners.min(axis=1) // LATTICE, corners.max(axis=1) // LATTICE
    middle = (first + last) // 2
    corners = corners - LATTICE * middle[:, None]  # from the triangle's middle cell: all products fit 64 bits
    edges = np.roll(corners, -1, axis=1) - corners
    axes = [np.cross(edges[:, 0], edges[:, 1])]
    axes += [np.cross(edges[:, e], one) for e in range(3) for one in np.eye(3, dtype=np.int64)]
    shadows = [(axis, (corners * axis[:, None]).sum(axis=2)) for axis in axes]
    face, box = np.arange(len(faces)), first - middle  # cubes of `side` cells, from `box` on, each with its triangle
    levels = int((last - first).max(initial=0)).bit_length()
    for side in (2**level for level in reversed(range(levels))):
        halves = side * np.array(list(product((0, 1), repeat=3)))
        face, box = np.repeat(face, 8), (box[:, None] + halves).reshape(-1, 3)
        meets, half = (box <= (last - middle)[face]).all(axis=1), LATTICE * side // 2
        for axis, at in shadows:
            centre, reach = np.einsum("nd,nd->n", LATTICE * box + half, axis[face]), half * np.abs(axis).sum(axis=1)
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
            raise MeshFault(s, error) from error
        cells = fill_solid(cells, spatial_size) if fill else cells
        keys.append(keys_of(np.full(len(cells), s), cells, spatial_size))
    return np.concatenate(keys), dropped
