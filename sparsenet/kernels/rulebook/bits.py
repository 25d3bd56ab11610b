"""Rulebooks on a CPU by bit maps: one bit a cell, set where an output site is.

                     cell of the output grid          rank: outputs before the word
    bits   word 0    . x . . x . . .                  0
           word 1    x . . . . . . x                  2        row of a cell = rank of its word
           word 2    . . x . . . . .                  4                      + bits set below it

    output_keys   every input sets the bits of the cells to which its offsets lead; listing the bits gives the
                  keys, sorted and each once.  Nothing is compared.
    neighbours    every input finds the rows of those cells and writes itself there.
    pairs         the same, sorted into one list for each offset: inputs come in order, and for one offset
                  a later input has a later output, so the lists are sorted as they grow.  A submanifold
                  filter has its pairs twice, under opposite offsets with the columns swapped: one half is
                  found, the other copied.

A task is a range of one sample's output cells (output_keys) or rows (the others), with a bit map of its own
in the thread's scratch memory: some 100 KB if sites are spread evenly, which stay in the second cache.  It
reads only those inputs whose first coordinates can lead to the range.  Small tasks are done several in one go.
Ranges depend on sizes alone, and no two tasks write to the same place.  Grids so empty that reading the words
would cost more than the sites do, or so flat that tasks would read too many inputs, are left to walk.py.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sparsenet.kernels.cpu.scratch import scratch
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.rulebook.loops import (
    TASK,
    BitMap,
    Inputs,
    Tasks,
    copy_pairs,
    find_pairs,
    group_tasks,
    list_cells,
    sort_by_offset,
    write_neighbours,
)
from sparsenet.kernels.rulebook.windows import FilterWindows

MAX_WORDS_PER_SITE = 64  # above it, clearing and reading words costs more than walking sorted keys
MAX_READS_PER_SITE = 8  # of an input, by tasks beside each other
_BUFFER_PAIRS = 1 << 17  # found at a time
_UNDIVIDED_CELLS = 1 << 20  # of a sample: its bit map is not worth splitting
_TASK_SITES = 4096  # of samples with more cells
_GROUP_INPUTS, _GROUP_WORDS = 2048, 1 << 14  # of tasks that are done in one go
_MIN_TASKS = 8  # for few samples that are large enough to share out
_MIN_SITES = 1024
_MIN_ENTRIES = 1 << 16  # of the windows by axis: some MB, however few sites there are
_MIN_PAIRS = 1 << 15  # that are worth waking a thread for


class _Ranges(NamedTuple):
    """Ranges of a sample's rows, each a task: all arrays (T,) int64.

    first, end : rows;  sample : the sample;  part, parts : the range's number within the sample, out of how many
    """

    first: np.ndarray
    end: np.ndarray
    sample: np.ndarray
    part: np.ndarray
    parts: np.ndarray


def fits(keys, samples, spatial_size, output_size, kernel_size, stride, padding, dilation) -> bool:
    """Whether bit maps of the output grids, and the windows by axis, are small beside the sites."""
    entries = sum(spatial_size) * max(kernel_size)
    return (0 < samples * prod(output_size) <= 64 * MAX_WORDS_PER_SITE * keys.size
            and entries <= max(keys.size, _MIN_ENTRIES))


def output_keys(keys, coordinates, batch_splits, windows: FilterWindows) -> np.ndarray | None:
    """(M,) int64, sorted, of the cells that some offset joins to a site; None if the walk is cheaper."""
    ranges = _ranges(batch_splits, windows)
    if not len(ranges.first):
        return keys[:0].copy()
    low, high = (windows.cells * (ranges.part + i) // ranges.parts for i in (0, 1))
    tasks = Tasks(low, high, windows.input_runs(keys, ranges.sample, low, high))
    if _reads_too_often(tasks, keys):
        return None
    inputs, tasks = _inputs(coordinates, windows), tuple(tasks)  # see loops.py
    borders = group_tasks(tasks, _GROUP_INPUTS, _GROUP_WORDS).tolist()
    sample_keys, words = ranges.sample * windows.cells, np.add.reduceat((high - low + 63) // 64, borders[:-1]).tolist()
    found: list[Any] = [None] * (len(borders) - 1)

    def group(g: int) -> None:
        first, end = borders[g], borders[g + 1]
        found[g] = list_cells(inputs, tasks, first, end, sample_keys, scratch("bits", words[g], np.int64)[0])

    run_blocks(group, len(found))
    return np.concatenate(found)


def neighbours(keys, coordinates, output, batch_size, windows: FilterWindows) -> np.ndarray | None:
    """(M, K) int32: row of the input site under each offset, -1 if there is none; None if the walk is cheaper.

    output : (M,) int64, the sorted keys of the output sites
    """
    result = np.empty((output.size, windows.offsets), np.int32)

    def begin(group: int, first: int, end: int) -> None:
        result[first:end] = -1

    def fill(group: int, found: np.ndarray, counts: np.ndarray) -> None:
        write_neighbours(found, result)

    return result if _find(keys, coordinates, output, batch_size, windows, windows.offsets, begin, fill) else None


def pairs(keys, coordinates, output, batch_size, windows: FilterWindows, submanifold: bool
          ) -> tuple[np.ndarray, np.ndarray] | None:
    """((P, 2) int32 rows [input, output], (K+1,) int64 splits): grouped by offset, by output within one; None if
    the walk is cheaper."""
    searched = windows.offsets // 2 if submanifold else windows.offsets
    of_group: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}  # lists of pairs by offset, and the counts of each

    def begin(group: int, first: int, end: int) -> None:
        of_group[group] = []

    def fill(group: int, found: np.ndarray, counts: np.ndarray) -> None:
        by_offset = np.empty((len(found), 2), np.int32)
        sort_by_offset(found, counts, by_offset)
        of_group[group].append((by_offset, counts))

    if not _find(keys, coordinates, output, batch_size, windows, searched, begin, fill):
        return None
    lists = [one for group in sorted(of_group) for one in of_group[group]]
    if len(lists) == 1 and not submanifold:
        return lists[0][0], np.concatenate([[0], np.cumsum(lists[0][1])])
    return _joined(lists, searched, len(output), submanifold)


def _joined(lists, searched: int, outputs: int, submanifold: bool) -> tuple[np.ndarray, np.ndarray]:
    """The lists as one, by offset, and its splits.  For a submanifold filter they hold the offsets before the centre;
    the centre joins each site to itself, and offset K - 1 - k has the pairs of k with the columns swapped."""
    counts = np.array([counts for _, counts in lists], np.int64).reshape(len(lists), searched).T  # (offsets, lists)
    totals = counts.sum(axis=1)
    if submanifold:
        totals = np.concatenate([totals, [outputs], totals[::-1]])
    splits = np.concatenate([[0], np.cumsum(totals)])
    result = np.empty((int(splits[-1]), 2), np.int32)
    earlier = np.cumsum(counts, axis=1) - counts  # pairs of the offset in earlier lists
    starts = mirrored_starts = splits[:searched, None] + earlier
    if submanifold:
        result[splits[searched] : splits[searched + 1]] = np.arange(outputs, dtype=np.int32)[:, None]
        mirrored_starts = splits[-2:searched:-1, None] + earlier
    run_blocks(lambda t: copy_pairs(*lists[t], starts[:, t].copy(), mirrored_starts[:, t].copy(), submanifold, result),
               len(lists))
    return result, splits


def _ranges(splits: np.ndarray, windows: FilterWindows) -> _Ranges:
    """The rows of each sample in ranges whose number follows from sizes alone."""
    rows = np.diff(splits)
    limit = max(256, _BUFFER_PAIRS // windows.max_pairs)
    parts = -(-rows // (limit if windows.cells <= _UNDIVIDED_CELLS else min(limit, _TASK_SITES)))
    if len(rows) < _MIN_TASKS:
        worthwhile = -(-rows // max(_MIN_SITES, _MIN_PAIRS // windows.max_pairs))
        parts = np.maximum(parts, np.minimum(_MIN_TASKS, worthwhile))
    sample = np.repeat(np.arange(len(rows), dtype=np.int64), parts)
    part = np.arange(len(sample), dtype=np.int64) - np.repeat(np.cumsum(parts) - parts, parts)
    first, end = (splits[sample] + rows[sample] * (part + i) // parts[sample] for i in (0, 1))
    return _Ranges(first, end, sample, part, parts[sample])


def _inputs(coordinates: np.ndarray, windows: FilterWindows) -> tuple:
    """The plain tuple of `Inputs`."""
    return tuple(Inputs(coordinates, tuple(windows.by_axis), windows.max_pairs, windows.max_lines))


def _reads_too_often(tasks: Tasks, keys: np.ndarray) -> bool:
    return (tasks.runs[..., 1] - tasks.runs[..., 0]).sum() > MAX_READS_PER_SITE * keys.size + _TASK_SITES


def _find(keys, coordinates, output, batch_size, windows, offsets, begin: Callable, fill: Callable) -> bool:
    """Find the pairs of the first `offsets` offsets; False, and nothing done, if the walk is cheaper.

    begin(group, first, end) : called first, with the group's output rows
    fill(group, found, counts) : called then, once or more: found (n, 3) int32 are [input, output, offset], those of an
        offset by output, and counts (offsets,) int64 how many of each offset there are
    """
    ranges = _ranges(np.searchsorted(output, np.arange(batch_size + 1, dtype=np.int64) * windows.cells), windows)
    if not len(ranges.first):
        return True
    first_cell = ranges.sample * windows.cells
    low, high = output[ranges.first] - first_cell, output[ranges.end - 1] - first_cell + 1
    tasks = Tasks(low, high, windows.input_runs(keys, ranges.sample, low, high))
    if _reads_too_often(tasks, keys):
        return False
    inputs, tasks = _inputs(coordinates, windows), tuple(tasks)  # see loops.py
    borders = group_tasks(tasks, _GROUP_INPUTS, _GROUP_WORDS).tolist()
    output_rows, words = np.stack([ranges.first, ranges.end], axis=1), int((high - low).max() + 63) // 64 + 1

    def group(g: int) -> None:
        first, end = borders[g], borders[g + 1]
        bit_map = tuple(BitMap(scratch("bits", words, np.int64)[0], scratch("ranks", words, np.int32)[0]))
        found = scratch("found", 3 * max(_BUFFER_PAIRS, windows.max_pairs), np.int32)[0].reshape(-1, 3)
        begin(g, ranges.first[first], ranges.end[end - 1])
        cursor = np.array([first, 0, 0, -1])  # TASK, RUN, INPUT, MAPPED
        while cursor[TASK] < end:
            counts = np.zeros(offsets, np.int64)
            count = find_pairs(inputs, tasks, end, output, output_rows, cursor, bit_map, counts, found)
            fill(g, found[:count], counts)

    run_blocks(group, len(borders) - 1)
    return True
