"""Rulebooks on a CPU by bit maps: one bit a cell, set where an output site is.

                     cell of the output grid          rank: outputs before the word
    bits   word 0    . x . . x . . .                  0
           word 1    x . . . . . . x                  2        row of a cell = rank of its word
           word 2    . . x . . . . .                  4                      + bits set below it

    output_keys   every input sets the bits of the cells that its offsets reach; listing the bits gives the
                  keys, sorted and each once.  Nothing is compared.
    neighbours    every input looks up the rows of those cells and writes itself there.
    pairs         the same, sorted into one list for each offset: inputs come in order, and for one offset
                  a later input has a later output, so the lists are sorted as they grow.  A submanifold
                  filter has its pairs twice, under opposite offsets with the columns swapped: one half is looked
                  up, the other copied.

A task is a range of one sample's output cells (output_keys) or rows (the others), with a bit map of its own
in the thread's scratch memory: some 100 KB where sites are spread evenly, which stay in the second cache.  It
looks at those inputs only whose first coordinates can reach the range.  Small tasks are done several in one go.
Ranges depend on sizes alone, and no two tasks write to the same place.  Grids so empty that reading the words
would cost more than the sites do, or so flat that tasks would look at too many inputs, are left to
walk.py.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from sparsenet.kernels.cpu.memory import empty
from sparsenet.kernels.cpu.scratch import scratch
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.rulebook.loops import by_offset, copy_lists, grouped, list_cells, look_up, write_table
from sparsenet.kernels.rulebook.reach import Reach

MOST_WORDS_PER_SITE = 64  # above it, clearing and reading words costs more than walking sorted keys
MOST_LOOKS_PER_SITE = 8  # at an input, by tasks beside each other
_FOUND = 1 << 17  # pairs found at a time
_CELLS = 1 << 20  # of a sample: its bit map is not worth splitting
_SITES = 4096  # of a task, of samples with more cells
_GROUPED, _WORDS = 2048, 1 << 14  # inputs and words of tasks that are done in one go
_LEAST_TASKS = 8  # for few samples that are large enough to share out
_LEAST_SITES = 1024
_LEAST_ENTRIES = 1 << 16  # of a table of the axes: some MB, however few sites there are
_LEAST_FOUND = 1 << 15  # pairs that are worth waking a thread for


def fits(keys, samples, spatial_size, output_size, kernel_size, stride, padding, dilation) -> bool:
    """Whether bit maps of the output grids, and tables of the axes, are small beside the sites."""
    entries = sum(spatial_size) * max(kernel_size)
    return (0 < samples * prod(output_size) <= 64 * MOST_WORDS_PER_SITE * keys.size
            and entries <= max(keys.size, _LEAST_ENTRIES))


def output_keys(keys, coordinates, batch_splits, reach: Reach) -> np.ndarray | None:
    """(M,) int64, sorted, of the cells that some offset joins to a site; None where the walk is cheaper."""
    begin, _, samples, part, parts = _shared_out(batch_splits, reach)
    if not len(begin):
        return keys[:0].copy()
    low, high = (reach.cells * (part + i) // parts for i in (0, 1))
    inputs = reach.inputs(keys, samples, low, high)
    if _looks_too_often(inputs, keys):
        return None
    borders = grouped(inputs, low, high, _GROUPED, _WORDS).tolist()
    found: list[Any] = [None] * (len(borders) - 1)

    def group(g: int) -> None:
        tasks = borders[g], borders[g + 1]
        words = int(((high - low + 63) // 64)[slice(*tasks)].sum())
        found[g] = list_cells(coordinates, tasks, reach.most == 1, reach.lines, inputs, low, high,
                              samples * reach.cells, *reach.tables, scratch("bits", words, np.int64)[0])

    run_blocks(group, len(found))
    return np.concatenate(found)


def neighbours(keys, coordinates, output, batch_size, reach: Reach) -> np.ndarray | None:
    """(M, K) int32: row of the input site under each offset, -1 where there is none; None where the walk is cheaper.

    output : (M,) int64, the sorted keys of the output sites
    """
    table = empty((output.size, reach.offsets), np.int32)

    def clear(group: int, first: int, last: int) -> None:
        table[first:last] = -1

    def fill(group: int, found: np.ndarray, count: int, counts: np.ndarray) -> None:
        write_table(found, count, table)

    return table if _each_group(keys, coordinates, output, batch_size, reach, reach.offsets, clear, fill) else None


def pairs(keys, coordinates, output, batch_size, reach: Reach, submanifold: bool
          ) -> tuple[np.ndarray, np.ndarray] | None:
    """((P, 2) int32 rows [input, output], (K+1,) int64 splits): grouped by offset, by output within one; None where
    the walk is cheaper."""
    half = reach.offsets // 2 if submanifold else reach.offsets
    of_group: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def begin(group: int, first: int, last: int) -> None:
        of_group[group] = []

    def fill(group: int, found: np.ndarray, count: int, counts: np.ndarray) -> None:
        of_group[group].append((np.empty((count, 2), np.int32), counts))
        by_offset(found, count, np.cumsum(counts) - counts, of_group[group][-1][0])

    if not _each_group(keys, coordinates, output, batch_size, reach, half, begin, fill):
        return None
    lists = [one for number in sorted(of_group) for one in of_group[number]]
    if len(lists) == 1 and not submanifold:
        return lists[0][0], np.concatenate([[0], np.cumsum(lists[0][1])])
    counts = np.zeros((half, len(lists)), np.int64)
    for t, (_, mine) in enumerate(lists):
        counts[:, t] = mine
    before = np.cumsum(counts, axis=1) - counts  # of the offset, in earlier lists
    of_offset = counts.sum(axis=1)
    if submanifold:
        of_offset = np.concatenate([of_offset, [len(output)], of_offset[::-1]])
    splits = np.concatenate([[0], np.cumsum(of_offset)])
    result = empty((int(splits[-1]), 2), np.int32)
    if submanifold:
        result[splits[half] : splits[half + 1]] = np.arange(len(output), dtype=np.int32)[:, None]
    starts = splits[:half, None] + before
    mirrored = splits[:half:-1][1:half + 1, None] + before if submanifold else starts
    run_blocks(lambda t: copy_lists(*lists[t], starts[:, t].copy(), mirrored[:, t].copy(), submanifold, result),
               len(lists))
    return result, splits


def _shared_out(splits: np.ndarray, reach: Reach) -> tuple[np.ndarray, ...]:
    """Ranges of rows of one sample, each a task: first row, end row, sample, the range's number within the
    sample, and how many the sample has."""
    rows = np.diff(splits)
    most = max(256, _FOUND // reach.most)
    parts = -(-rows // (most if reach.cells <= _CELLS else min(most, _SITES)))
    if len(rows) < _LEAST_TASKS:
        parts = np.maximum(parts, np.minimum(_LEAST_TASKS, -(-rows // max(_LEAST_SITES, _LEAST_FOUND // reach.most))))
    samples = np.repeat(np.arange(len(rows), dtype=np.int64), parts)
    part = np.arange(len(samples), dtype=np.int64) - np.repeat(np.cumsum(parts) - parts, parts)
    first, last = (splits[samples] + rows[samples] * (part + i) // parts[samples] for i in (0, 1))
    return first, last, samples, part, parts[samples]


def _looks_too_often(inputs: np.ndarray, keys: np.ndarray) -> bool:
    return (inputs[..., 1] - inputs[..., 0]).sum() > MOST_LOOKS_PER_SITE * keys.size + _SITES


def _each_group(keys, coordinates, output, batch_size, reach, offsets, begin: Callable, fill: Callable) -> bool:
    """For each group of ranges of output rows, begin(group, first row, end row), then fill(group, found (n, 3), n,
    counts (offsets,)) as often as so many are found; `found` holds [input, output, offset] of the first `offsets`
    offsets, those of an offset by output.  False, and nothing done, where the walk is cheaper."""
    splits = np.searchsorted(output, np.arange(batch_size + 1, dtype=np.int64) * reach.cells)
    first, last, samples, _, _ = _shared_out(splits, reach)
    if not len(first):
        return True
    low = output[first] - samples * reach.cells
    high = output[last - 1] - samples * reach.cells + 1
    inputs = reach.inputs(keys, samples, low, high)
    if _looks_too_often(inputs, keys):
        return False
    borders = grouped(inputs, low, high, _GROUPED, _WORDS).tolist()
    rows, words = np.stack([first, last], axis=1), int((high - low).max() + 63) // 64 + 1

    def group(g: int) -> None:
        bits, ranks = scratch("bits", words, np.int64)[0], scratch("ranks", words, np.int32)[0]
        found = scratch("found", 3 * max(_FOUND, reach.most), np.int32)[0].reshape(-1, 3)
        begin(g, first[borders[g]], last[borders[g + 1] - 1])
        state = np.array([borders[g], 0, 0, -1])
        while state[0] < borders[g + 1]:
            counts = np.zeros(offsets, np.int64)
            count = look_up(coordinates, state, borders[g + 1], reach.most, reach.lines, inputs, output, rows, low,
                            high, *reach.tables, bits, ranks, counts, found)
            fill(g, found, count, counts)

    run_blocks(group, len(borders) - 1)
    return True
