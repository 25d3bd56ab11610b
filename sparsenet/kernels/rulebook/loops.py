"""The compiled loops of bits.py.

A cell is a number within the output grid of one sample.  A task covers the cells low to high - 1 of its sample, and its
bit map has a bit for each, the first for `low`.

An index that cannot be negative is unsigned: for a signed one Numba tests each time whether it counts from the end.
`AxisWindows` and the named tuples below arrive as plain tuples, whose types Numba finds a microsecond faster with each
call, and are unpacked before the loops: an array read from a tuple within a loop is counted as one more reference.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from sparsenet.kernels.cpu.bits import lowest as lowest_bit
from sparsenet.kernels.cpu.bits import ones
from sparsenet.kernels.cpu.numba_cache import compiled

TASK, RUN, INPUT, MAPPED = range(4)  # of the cursor of `find_pairs`
_ALL_OFFSETS = 1 << 62
_ONE, _SIX, _LOW_BITS = np.uint64(1), np.uint64(6), np.uint64(63)  # of a cell: word = cell >> 6, bit = cell & 63


class Tasks(NamedTuple):
    """Ranges of output cells.

    low, high : (T,) int64, the cells low to high - 1 of the task's sample
    runs : (T, X, 2) int64, runs of input rows [first, end) that contain all inputs joined to those cells
    """

    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray


class Inputs(NamedTuple):
    """Input sites and the filter that joins them to output cells.

    coordinates : (N, 1+D) int32
    windows : a plain tuple of the arrays of `AxisWindows`;  max_pairs, max_lines : see `FilterWindows`
    """

    coordinates: np.ndarray
    windows: tuple
    max_pairs: int
    max_lines: int


class BitMap(NamedTuple):
    """The outputs of a task: a bit for each cell, and for each word the row of its first set bit.

    bits : (words,) int64;  ranks : (words,) int32
    """

    bits: np.ndarray
    ranks: np.ndarray


@numba.njit(nogil=True)
def _entry(coordinates, n, axis, start):
    """The entry of input n in the `AxisWindows`, for one of four axes."""
    column = axis + coordinates.shape[1] - 4
    return np.uint64(start[axis] + (coordinates[n, column] if column > 0 else 0))


@numba.njit(nogil=True)
def _entries(coordinates, n, start):
    """The entries of all four axes."""
    return (_entry(coordinates, n, 0, start), _entry(coordinates, n, 1, start), _entry(coordinates, n, 2, start),
            _entry(coordinates, n, 3, start))


@numba.njit(nogil=True)
def _begins_line(coordinates, n):
    """Whether input n - 1 differs in more than the last coordinate."""
    for axis in range(1, coordinates.shape[1] - 1):
        if coordinates[n, np.uint64(axis)] != coordinates[n - 1, np.uint64(axis)]:
            return True
    return False


@numba.njit(nogil=True)
def _find_lines(coordinates, n, start, count, offsets, cells, low, end_offset, found):
    """List the lines of output cells, along the last axis, to which offsets below `end_offset` join input n's line.

    found : (2, lines), gets the first cell of each line, less `low`, and the first offset that leads there
    Returns the number of lines.
    """
    a, b, c, _ = _entries(coordinates, n, start)
    lines = np.uint64(0)
    for i in range(count[a]):
        for j in range(count[b]):
            for k in range(count[c]):
                offset = offsets[a, i] + offsets[b, j] + offsets[c, k]
                if offset < end_offset:
                    found[0, lines] = cells[a, i] + cells[b, j] + cells[c, k] - low
                    found[1, lines] = offset
                    lines += _ONE
    return lines


@numba.njit(nogil=True)
def _mark(inputs, begin, end, low, high, bits):
    """Set the bits of the cells from `low` to `high` - 1 that the inputs `begin` to `end` - 1 are joined to."""
    coordinates, (start, count, offsets, cells, lowest, mask), _, max_lines = inputs
    lines_found = np.empty((2, max_lines), np.int64)
    line_cells = lines_found[0]
    last, size, lines = np.uint64(coordinates.shape[1] - 1), high - low, np.uint64(0)
    whole = np.uint64(max(size - 64, 0))  # a mask at a lower cell lies within the bit map
    for n in range(np.uint64(begin), np.uint64(end)):
        if n == np.uint64(begin) or _begins_line(coordinates, n):
            lines = _find_lines(coordinates, n, start, count, offsets, cells, low, _ALL_OFFSETS, lines_found)
        e = np.uint64(start[3] + coordinates[n, last])
        for line in range(lines):
            first = np.uint64(line_cells[line] + lowest[e])
            if mask[e] != 0 and first < whole:  # set all bits of the window at once
                word, shift = first >> _SIX, first & _LOW_BITS
                bits[word] |= mask[e] << np.int64(shift)
                carried = np.uint64(mask[e]) >> _ONE >> _LOW_BITS - shift  # by 64 at most, in two steps
                if carried:
                    bits[word + _ONE] |= np.int64(carried)
                continue
            for i in range(count[e]):
                cell = line_cells[line] + cells[e, i]
                if 0 <= cell < size:
                    bits[cell >> 6] |= np.int64(1) << (cell & 63)


@numba.njit(nogil=True)
def _mark_non_overlapping(inputs, begin, end, low, high, bits):
    """`_mark` if each input is joined to one cell at most."""
    coordinates, (start, _, _, _, lowest, _), _, _ = inputs
    size = np.uint64(high - low)
    for n in range(np.uint64(begin), np.uint64(end)):
        a, b, c, d = _entries(coordinates, n, start)
        cell = np.uint64(lowest[a] + lowest[b] + lowest[c] + lowest[d] - low)
        if cell < size:
            bits[cell >> _SIX] |= np.int64(1) << np.int64(cell & _LOW_BITS)


@numba.njit(nogil=True)
def _count_bits(bits):
    total = 0
    for w in range(bits.size):
        total += ones(bits[w])
    return total


@numba.njit(nogil=True)
def _list_bits(bits, first_key, position, keys):
    """Write the keys of the set bits, the first bit's being `first_key`, from keys[position] on; returns the next
    position."""
    for w in range(bits.size):
        word = bits[w]
        while word != 0:
            keys[position] = first_key + (w << 6) + lowest_bit(word)
            position += 1
            word &= word - 1
    return position


@compiled
def list_cells(inputs, tasks, first, end, sample_keys, bits):
    """(M,) int64: the keys of the cells that inputs are joined to, of the tasks `first` to `end` - 1 in their order.

    inputs, tasks : plain tuples of `Inputs` and `Tasks`
    sample_keys : (T,) int64, the key of the first cell of each task's sample
    bits : (words,) int64, scratch for the bit maps of these tasks, side by side
    """
    (low, high, runs), (_, _, max_pairs, _) = tasks, inputs
    bits[:] = 0
    word = 0
    for t in range(first, end):
        words = (high[t] - low[t] + 63) // 64
        bit_map = bits[word : word + words]
        for x in range(runs.shape[1]):
            if max_pairs == 1:
                _mark_non_overlapping(inputs, runs[t, x, 0], runs[t, x, 1], low[t], high[t], bit_map)
            else:
                _mark(inputs, runs[t, x, 0], runs[t, x, 1], low[t], high[t], bit_map)
        word += words
    keys = np.empty(_count_bits(bits[:word]), np.int64)
    word = position = 0
    for t in range(first, end):
        words = (high[t] - low[t] + 63) // 64
        position = _list_bits(bits[word : word + words], sample_keys[t] + low[t], position, keys)
        word += words
    return keys


@numba.njit(nogil=True)
def _map_outputs(keys, begin, end, bits, ranks):
    """Set the bits of the output rows `begin` to `end` - 1, the first bit being that of `begin`; the rank of a word is
    the row of its first set bit."""
    for w in range(bits.size):
        bits[w] = 0
    for m in range(begin, end):
        cell = keys[m] - keys[begin]
        bits[cell >> 6] |= np.int64(1) << (cell & 63)
    row = np.int64(begin)
    for w in range(bits.size):
        ranks[w] = row
        row += ones(bits[w])


@numba.njit(nogil=True)
def _find(inputs, begin, end, low, size, bit_map, counts, found):
    """List [input, output, offset] of the inputs `begin` to `end` - 1 and the first `counts.size` offsets, count them
    by offset in `counts`, and return how many there are.

    The bit map begins at cell `low` and has `size` bits, and one more word.
    """
    coordinates, (start, count, offsets, cells, lowest, mask), _, max_lines = inputs
    bits, ranks = bit_map
    lines_found = np.empty((2, max_lines), np.int64)
    line_cells, line_offsets = lines_found
    last, total, lines = np.uint64(coordinates.shape[1] - 1), np.uint64(0), np.uint64(0)
    for n in range(np.uint64(begin), np.uint64(end)):
        if n == np.uint64(begin) or _begins_line(coordinates, n):
            lines = _find_lines(coordinates, n, start, count, offsets, cells, low, counts.size, lines_found)
        e = np.uint64(start[3] + coordinates[n, last])
        for line in range(lines):
            first = np.uint64(line_cells[line] + lowest[e])
            if mask[e] != 0 and first < np.uint64(size):  # most windows are empty: test all their cells at once
                word, shift = first >> _SIX, first & _LOW_BITS
                carried = np.uint64(bits[word + _ONE]) << _ONE << _LOW_BITS - shift  # by 64 at most, in two steps
                if (np.uint64(bits[word]) >> shift | carried) & np.uint64(mask[e]) == np.uint64(0):
                    continue
            for i in range(count[e]):
                cell, offset = np.uint64(line_cells[line] + cells[e, i]), np.uint64(line_offsets[line] + offsets[e, i])
                if offset < np.uint64(counts.size) and cell < np.uint64(size):  # a negative cell is huge as unsigned
                    word, bit = bits[cell >> _SIX], np.int64(cell & _LOW_BITS)
                    if word >> bit & 1:
                        counts[offset] += 1
                        found[total, 0] = n
                        found[total, 1] = ranks[cell >> _SIX] + ones(word & ((np.int64(1) << bit) - 1))
                        found[total, 2] = offset
                        total += _ONE
    return np.int64(total)


@numba.njit(nogil=True)
def _find_non_overlapping(inputs, begin, end, low, size, bit_map, counts, found):
    """`_find` if each input is joined to one output at most.  The innermost lines are repeated: as a function, called
    or inlined by Numba, they made rulebooks up to six times slower."""
    (coordinates, (start, _, offsets, _, lowest, _), _, _), (bits, ranks) = inputs, bit_map
    total = np.uint64(0)
    for n in range(np.uint64(begin), np.uint64(end)):
        a, b, c, d = _entries(coordinates, n, start)
        cell = np.uint64(lowest[a] + lowest[b] + lowest[c] + lowest[d] - low)
        offset = np.uint64(offsets[a, 0] + offsets[b, 0] + offsets[c, 0] + offsets[d, 0])
        if offset < np.uint64(counts.size) and cell < np.uint64(size):
            word, bit = bits[cell >> _SIX], np.int64(cell & _LOW_BITS)
            if word >> bit & 1:
                counts[offset] += 1
                found[total, 0] = n
                found[total, 1] = ranks[cell >> _SIX] + ones(word & ((np.int64(1) << bit) - 1))
                found[total, 2] = offset
                total += _ONE
    return np.int64(total)


@compiled
def find_pairs(inputs, tasks, end_task, output_keys, output_rows, cursor, bit_map, counts, found):
    """List [input, output, offset] of the first `counts.size` offsets, from the cursor on, until `found` has no room
    for one more input or the tasks before `end_task` are done; returns how many there are.

    inputs, tasks, bit_map : plain tuples of `Inputs`, `Tasks` and `BitMap`, scratch with a word more than any task has
    output_keys : (M,) int64;  output_rows : (T, 2) int64, the rows [first, end) of the outputs of each task
    cursor : (4,) int64: the TASK, the RUN of its inputs and the INPUT to go on with, and the task that is MAPPED
    counts : (K',) int64, gets the number of pairs of each offset;  found : (F, 3) int32
    """
    (low, high, runs), (bits, ranks), (_, _, max_pairs, _) = tasks, bit_map, inputs
    total = 0
    while cursor[TASK] < end_task:
        t = cursor[TASK]
        words = (high[t] - low[t] + 63) // 64
        if cursor[MAPPED] != t:
            _map_outputs(output_keys, output_rows[t, 0], output_rows[t, 1], bits[: words + 1], ranks[: words + 1])
            cursor[MAPPED] = t
        while cursor[RUN] < runs.shape[1]:
            begin, end = max(cursor[INPUT], runs[t, cursor[RUN], 0]), runs[t, cursor[RUN], 1]
            stop = min(end, begin + (found.shape[0] - total) // max_pairs)
            if begin < stop and max_pairs == 1:
                total += _find_non_overlapping(inputs, begin, stop, low[t], words << 6, bit_map, counts, found[total:])
            elif begin < stop:
                total += _find(inputs, begin, stop, low[t], words << 6, bit_map, counts, found[total:])
            if stop < end:  # `found` is full
                cursor[INPUT] = stop
                return total
            cursor[RUN], cursor[INPUT] = cursor[RUN] + 1, 0
        cursor[TASK], cursor[RUN] = cursor[TASK] + 1, 0
    return total


@compiled
def group_tasks(tasks, max_inputs, max_words):
    """(G+1,) int64 borders of groups of consecutive tasks: each group is one task, or has at most so many inputs and
    words of bits."""
    low, high, runs = tasks
    borders, groups = np.zeros(low.size + 1, np.int64), 0
    group_inputs = group_words = 0
    for t in range(low.size):
        inputs, words = 0, (high[t] - low[t] + 63) // 64
        for x in range(runs.shape[1]):
            inputs += runs[t, x, 1] - runs[t, x, 0]
        group_inputs, group_words = group_inputs + inputs, group_words + words
        if t > borders[groups] and (group_inputs > max_inputs or group_words > max_words):
            groups += 1
            borders[groups] = t
            group_inputs, group_words = inputs, words
    borders[groups + 1] = low.size
    return borders[: groups + 2]


@compiled
def write_neighbours(found, neighbours):
    """Write the input row of each [input, output, offset] to its place in `neighbours` (M, K)."""
    for i in range(found.shape[0]):
        neighbours[found[i, 1], found[i, 2]] = found[i, 0]


@compiled
def sort_by_offset(found, counts, pairs):
    """Sort [input, output, offset] by offset into `pairs` (n, 2), those of an offset in their order.

    counts : (K',) int64, how many each offset has
    """
    position = np.empty(counts.size, np.int64)  # of the next pair of each offset
    begin = 0
    for k in range(counts.size):
        position[k] = begin
        begin += counts[k]
    for i in range(found.shape[0]):
        p = position[found[i, 2]]
        position[found[i, 2]] = p + 1
        pairs[p, 0] = found[i, 0]
        pairs[p, 1] = found[i, 1]


@compiled
def copy_pairs(source, counts, starts, mirrored_starts, mirrored, pairs):
    """Copy the pairs of each offset to `pairs` from starts[k] on and, if `mirrored`, with the columns swapped from
    mirrored_starts[k] on.

    source : (n, 2) int32, by offset;  counts : (K',) int64
    """
    p = 0
    for k in range(counts.size):
        for i in range(counts[k]):
            n, m = source[p, 0], source[p, 1]
            pairs[starts[k] + i, 0] = n
            pairs[starts[k] + i, 1] = m
            if mirrored:
                pairs[mirrored_starts[k] + i, 0] = m
                pairs[mirrored_starts[k] + i, 1] = n
            p += 1
