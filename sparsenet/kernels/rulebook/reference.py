"""Sites and rulebooks: input cell = output cell * stride - padding + offset * dilation."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import prod

import numpy as np

from sparsenet.kernels.table import formula_of


@formula_of("site_coordinates")
def site_coordinates(keys, spatial_size):
    """(N, 1+D) int32: a key is the row-major index of [batch, x, y, ...]."""
    strides = np.cumprod((1, *spatial_size[::-1]), dtype=np.int64)[::-1]
    return (keys[:, None] // strides % (2**31, *spatial_size)).astype(np.int32)


def keys_of(batch: np.ndarray, cells: np.ndarray, sides: tuple[int, ...]) -> np.ndarray:
    """(N,) int64 keys of cells (N, D) in grids `batch` (N,)."""
    return np.column_stack([batch, cells]) @ np.cumprod((1, *sides[::-1]), dtype=np.int64)[::-1]


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
