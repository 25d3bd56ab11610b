"""Rulebooks from sorted keys: output sites, neighbours, transposed neighbours, pairs.

A key is the row-major index of (batch, x, y, z); sites are sorted by it.  On a CPU nothing is hashed or
sorted: bits.py marks the output cells in bit maps and finds rows by counting bits; if grids
are too large and empty for that, walk.py walks the sorted keys side by side.  Both give the same
arrays.  cuda.py, for a GPU, finds neighbours in the hash table of the input keys.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.search import lower_bound
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.rulebook import bits as rulebook_bits
from sparsenet.kernels.rulebook import joined  # noqa: F401  (registers its kernel)
from sparsenet.kernels.rulebook import walk as rulebook_walk
from sparsenet.kernels.rulebook.contract import NEIGHBOURS, OUTPUT_KEYS, PAIRS, WINDOWS
from sparsenet.kernels.rulebook.contract import SITE_COORDINATES as COORDINATES
from sparsenet.kernels.rulebook.contract import TRANSPOSE_NEIGHBOURS as TRANSPOSE
from sparsenet.kernels.rulebook.contract import TRANSPOSED_OF_PAIRS as TRANSPOSED
from sparsenet.kernels.rulebook.windows import windows_of

_ROWS = 4096  # rows of a block
_KEYS = 1 << 15  # keys of one: some nanoseconds each


@COORDINATES.implementation("cpu")
def _coordinates_cpu(keys, spatial_size):
    """(N, 1+D) int32: the rows [batch, x, y, ...] that the keys are the row-major index of."""
    coordinates = np.empty((keys.size, 1 + len(spatial_size)), np.int32)
    sides = np.array(spatial_size, np.int64)
    run_rows(lambda start, stop: _write_coordinates(keys, sides, start, stop, coordinates), keys.size, _KEYS)
    return coordinates


@compiled
def _write_coordinates(keys, sides, start, stop, coordinates):
    last = sides.size
    line, end = np.int64(0), np.int64(-1)  # keys of the line that the row before lies on
    for i in range(start, stop):
        key = keys[i]
        if line <= key < end:
            for axis in range(last):
                coordinates[i, axis] = coordinates[i - 1, axis]
        else:
            rest = key // sides[last - 1]
            line = rest * sides[last - 1]
            end = line + sides[last - 1]
            for axis in range(last - 1, 0, -1):
                coordinates[i, axis] = rest % sides[axis - 1]
                rest //= sides[axis - 1]
            coordinates[i, 0] = rest
        coordinates[i, last] = key - line


@OUTPUT_KEYS.implementation("cpu")
def _output_keys_cpu(keys, coordinates, batch_splits, sites, *axes):
    """Sorted distinct keys (M,) int64 of the cells that some kernel offset joins to a site."""
    found = None
    if rulebook_bits.fits(keys, batch_splits.size - 1, *axes):
        found = rulebook_bits.output_keys(keys, coordinates, batch_splits, windows_of(*axes))
    return rulebook_walk.output_keys(keys, batch_splits, *axes) if found is None else found


@NEIGHBOURS.implementation("cpu")
def _neighbours_cpu(keys, coordinates, batch_splits, output_keys, output_coordinates, sites, *axes):
    """(M, K) int32: row of the input site under each kernel offset, -1 if there is none."""
    table, samples = None, batch_splits.size - 1
    if rulebook_bits.fits(keys, samples, *axes):
        table = rulebook_bits.neighbours(keys, coordinates, output_keys, samples, windows_of(*axes))
    return rulebook_walk.neighbours(keys, output_coordinates, *axes) if table is None else table


@WINDOWS.implementation("cpu")
def _windows_cpu(neighbours, output_coordinates, spatial_size, output_size, kernel_size, stride, padding, dilation):
    """(M, K) int32: the neighbours, and -2 for a cell outside the grid."""
    offsets = np.indices(kernel_size).reshape(len(kernel_size), -1).T * np.array(dilation)
    axes = [np.array(axis, np.int64) for axis in (spatial_size, stride, padding)]
    table = np.empty_like(neighbours)
    run_rows(lambda start, stop: _mark_outside(neighbours, output_coordinates, offsets, *axes, start, stop, table),
             len(neighbours), _ROWS)
    return table


@compiled
def _mark_outside(neighbours, coordinates, offsets, sides, stride, padding, start, stop, table):
    """A window that lies within the grid is copied; else each cell without a site is looked at."""
    offset_count, dimension = offsets.shape
    for m in range(start, stop):
        within = True
        for axis in range(dimension):
            first = coordinates[m, 1 + axis] * stride[axis] - padding[axis]
            within &= first >= 0 and first + offsets[offset_count - 1, axis] < sides[axis]
        for k in range(offset_count):
            table[m, k] = neighbours[m, k]
            if within or table[m, k] >= 0:
                continue
            for axis in range(dimension):
                cell = coordinates[m, 1 + axis] * stride[axis] - padding[axis] + offsets[k, axis]
                if cell < 0 or cell >= sides[axis]:
                    table[m, k] = -2


@TRANSPOSED.implementation("cpu")
def _transposed_of_pairs_cpu(pairs, pair_splits, inputs):
    """(N, K) int32: row of the output site that offset k joins to each input site, or -1."""
    table = np.empty((inputs, pair_splits.size - 1), np.int32)
    run_rows(lambda start, stop: _write_transposed(pairs, pair_splits, start, stop, table), inputs, _ROWS)
    return table


@compiled
def _write_transposed(pairs, splits, start, stop, table):
    for n in range(start, stop):
        for k in range(table.shape[1]):
            table[n, k] = -1
    for k in range(table.shape[1]):
        end = splits[k + 1]
        p = lower_bound(pairs[:, 0], splits[k], end, start)
        while p < end and pairs[p, 0] < stop:
            table[pairs[p, 0], k] = pairs[p, 1]
            p += 1


@PAIRS.implementation("cpu")
def _pairs_cpu(keys, coordinates, batch_splits, output_keys, rulebook, submanifold, *axes):
    """((P, 2) int32 rows [input, output], (K+1,) int64 splits): the pairs grouped by offset, by
    output row within an offset."""
    samples = batch_splits.size - 1
    if rulebook_bits.fits(keys, samples, *axes):
        found = rulebook_bits.pairs(keys, coordinates, output_keys, samples, windows_of(*axes), submanifold)
        if found is not None:
            return found
    table = rulebook.neighbours
    offset, output = np.nonzero(table.T >= 0)
    pairs = np.empty((offset.size, 2), np.int32)
    pairs[:, 0] = table[output, offset]
    pairs[:, 1] = output
    splits = np.zeros(table.shape[1] + 1, np.int64)
    np.cumsum(np.bincount(offset, minlength=table.shape[1]), out=splits[1:])
    return pairs, splits


@TRANSPOSE.implementation("cpu")
def _transpose_cpu(neighbours, inputs):
    """(N, K) int32: row of the output site that offset k joins to each input site, or -1."""
    table = np.full((inputs, neighbours.shape[1]), -1, np.int32)
    # A (row, offset) of the result is written by one output at most.
    run_rows(lambda start, stop: _transpose(neighbours, table, start, stop), len(neighbours), _ROWS)
    return table


@compiled
def _transpose(neighbours, table, start, stop):
    for m in range(start, stop):
        for k in range(neighbours.shape[1]):
            row = neighbours[m, k]
            if row >= 0:
                table[row, k] = m
