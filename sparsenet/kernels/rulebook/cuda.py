"""Rulebooks on the GPU: every step stays there; one number per rulebook comes back, the number of outputs.

    output_keys  one bit for every cell of the output grids, set by every site, listed in order: canonical by
                 nature.  If the grids are too large for that (MAX_CELLS_PER_CANDIDATE), the candidates
                 are listed and sorted instead; both give the same keys.
    neighbours   one search of the hash table of the input keys for each entry.
    pairs        counted in chunks of rows, offset by offset, and listed in the same order.

`output_keys` fetches the number of outputs and the flag of the input's hash table, in one transfer.
`neighbours` fetches that flag if it has not been fetched yet (submanifold filters), `pairs` the number of pairs.
"""

from __future__ import annotations

from math import gcd, prod

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import THREADS, CudaSource, blocks_for
from sparsenet.kernels.fetch import fetch
from sparsenet.kernels.rulebook import joined  # noqa: F401  (registers its kernel)
from sparsenet.kernels.rulebook.contract import NEIGHBOURS, OUTPUT_KEYS, PAIRS, WINDOWS
from sparsenet.kernels.rulebook.contract import SITE_COORDINATES as COORDINATES
from sparsenet.kernels.rulebook.contract import TRANSPOSE_NEIGHBOURS as TRANSPOSE

# A bit costs 3/8 of a byte of traffic (cleared, counted, listed), a candidate some 160 (written, sorted by
# eight passes of a radix sort, counted, listed): above so many cells to a candidate, sorting is cheaper.
MAX_CELLS_PER_CANDIDATE = 426
GROUP, CHUNK, TILE = 8, 64, 64  # as in rulebook.cu and lists.cu
DIMENSIONS = (1, 2, 3, 4)  # of grids

SOURCE = CudaSource("rulebook/rulebook", variants=[{"DIMENSION": dimension} for dimension in DIMENSIONS])
LISTS = CudaSource("rulebook/lists", variants=[{}])


def _four(axis: tuple[int, ...]) -> tuple[int, ...]:
    return (*axis, *(1,) * (4 - len(axis)))


@COORDINATES.implementation("cuda")
def _coordinates_cuda(keys, spatial_size):
    coordinates = array_module(keys).empty((keys.size, 1 + len(spatial_size)), np.int32)
    kernel = SOURCE.kernel("site_coordinates", DIMENSION=len(spatial_size))
    kernel(blocks_for(keys.size), THREADS, keys, keys.size, *_four(spatial_size), coordinates)
    return coordinates


@OUTPUT_KEYS.implementation("cuda")
def _output_keys_cuda(keys, coordinates, batch_splits, sites, spatial_size, output_size, kernel_size, stride,
                      padding, dilation):
    if not keys.size:
        return keys.copy()
    table = sites.hash_table
    cells = (batch_splits.size - 1) * prod(output_size)
    axes = [number for axis in (spatial_size, output_size, kernel_size, stride, padding, dilation)
            for number in _four(axis)]
    per_site = prod(min(-(-k // (s // gcd(s, d))), side) for k, s, d, side in
                    zip(kernel_size, stride, dilation, output_size, strict=True))
    xp = array_module(keys)
    if cells <= MAX_CELLS_PER_CANDIDATE * keys.size * per_site:
        listed = xp.zeros(-(-cells // 32), np.uint32)
        kernel = SOURCE.kernel("mark_outputs", DIMENSION=len(spatial_size))
        kernel(blocks_for(keys.size), THREADS, keys, keys.size, *axes, listed)
        return _listed("count_bits", "list_bits", listed, table)
    listed = xp.empty(keys.size * per_site, np.int64)
    kernel = SOURCE.kernel("list_candidates", DIMENSION=len(spatial_size))
    kernel(blocks_for(keys.size), THREADS, keys, keys.size, per_site, *axes, listed)
    return _listed("count_distinct", "list_distinct", xp.sort(listed), table)


def _listed(count, write, source, table):
    """Count, sum up, fetch the sum, write: (M,) int64."""
    xp = array_module(source)
    counts = xp.empty(-(-source.size // GROUP), np.int32)
    LISTS.kernel(count)(blocks_for(counts.size), THREADS, source, source.size, counts)
    ends = xp.cumsum(counts, dtype=np.int64)
    total, *problems = fetch(ends[-1:], table.unchecked)
    table.check(problems)
    keys = xp.empty(total, np.int64)
    LISTS.kernel(write)(blocks_for(counts.size), THREADS, source, source.size, counts, ends, keys)
    return keys


@NEIGHBOURS.implementation("cuda")
def _neighbours_cuda(keys, coordinates, batch_splits, output_keys, output_coordinates, sites, spatial_size,
                     output_size, kernel_size, stride, padding, dilation):
    rows = output_coordinates.shape[0]
    result = array_module(keys).empty((rows, prod(kernel_size)), np.int32)
    table = sites.hash_table
    table.check()
    table_keys, table_rows = table
    axes = [number for axis in (spatial_size, kernel_size, stride, padding, dilation) for number in _four(axis)]
    kernel = SOURCE.kernel("neighbours", DIMENSION=len(spatial_size))
    kernel(blocks_for(rows, TILE), THREADS, table_keys, table_rows, table_keys.size - 1, output_coordinates, rows,
           *axes, result)
    return result


@WINDOWS.implementation("cuda")
def _windows_cuda(neighbours, output_coordinates, spatial_size, output_size, kernel_size, stride, padding, dilation):
    table = array_module(neighbours).empty(neighbours.shape, np.int32)
    axes = [number for axis in (spatial_size, kernel_size, stride, padding, dilation) for number in _four(axis)]
    kernel = SOURCE.kernel("windows", DIMENSION=len(spatial_size))
    kernel(blocks_for(len(neighbours), TILE), THREADS, neighbours, output_coordinates, len(neighbours), *axes, table)
    return table


@TRANSPOSE.implementation("cuda")
def _transpose_cuda(neighbours, inputs):
    rows, offsets = neighbours.shape
    result = array_module(neighbours).full((inputs, offsets), -1, np.int32)
    kernel = LISTS.kernel("transpose_neighbours")
    kernel(blocks_for(rows, TILE), THREADS, neighbours, rows, offsets, result)
    return result


@PAIRS.implementation("cuda")
def _pairs_cuda(keys, coordinates, batch_splits, output_keys, rulebook, submanifold, *axes):
    neighbours = rulebook.neighbours
    xp = array_module(neighbours)
    rows, offsets = neighbours.shape
    chunks = -(-rows // CHUNK)
    splits = xp.zeros(offsets + 1, np.int64)
    if not rows:
        return xp.zeros((0, 2), np.int32), splits
    counts = xp.empty(offsets * chunks, np.int32)
    LISTS.kernel("count_pairs")(blocks_for(counts.size), THREADS, neighbours, rows, offsets, counts)
    ends = xp.cumsum(counts, dtype=np.int64)
    splits[1:] = ends[chunks - 1::chunks]
    (total,) = fetch(ends[-1:])
    pairs = xp.empty((total, 2), np.int32)
    LISTS.kernel("list_pairs")(blocks_for(counts.size), THREADS, neighbours, rows, offsets, counts, ends, pairs)
    return pairs, splits
