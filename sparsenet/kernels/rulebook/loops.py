"""The compiled loops of bits.py.

coordinates : (N, 1+D) int32 of the inputs;  lines_at_most : `Reach.lines`
first, count, offset, cell, least, window : the tables of a `Reach`
low, high : (T,) int64, the cells of each task's sample that it covers: low to high - 1
inputs : (T, X, 2) int64, runs of input rows, from and to, among which are all that reach those cells

An index that cannot be negative is unsigned: Numba looks at a signed one again each time, to count from the end.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.cpu.bits import lowest, ones
from sparsenet.kernels.cpu.numba_cache import compiled


@numba.njit(nogil=True)
def _entry(coordinates, n, axis, first):
    """The entry in the tables of a Reach, for one of four axes."""
    column = axis + coordinates.shape[1] - 4
    return first[axis] + (coordinates[n, column] if column > 0 else 0)


@numba.njit(nogil=True)
def _entries(coordinates, n, first):
    """The entries of all four axes."""
    return (np.uint64(_entry(coordinates, n, 0, first)), np.uint64(_entry(coordinates, n, 1, first)),
            np.uint64(_entry(coordinates, n, 2, first)), np.uint64(_entry(coordinates, n, 3, first)))


@numba.njit(nogil=True)
def _begins_line(coordinates, n):
    """Whether the site before differs in more than the last coordinate."""
    for axis in range(1, coordinates.shape[1] - 1):
        if coordinates[n, np.uint64(axis)] != coordinates[n - 1, np.uint64(axis)]:
            return True
    return False


@numba.njit(nogil=True)
def _lines(coordinates, n, first, count, offset, cell, low, most, bases, numbers):
    """How many lines of cells, along the last axis, the line of site n reaches, for offsets below `most`; the cells
    that they begin at and the offsets that they begin with go to `bases` and `numbers`."""
    a, b, c, _ = _entries(coordinates, n, first)
    lines = np.uint64(0)
    for i in range(count[a]):
        for j in range(count[b]):
            for k in range(count[c]):
                number = offset[a, i] + offset[b, j] + offset[c, k]
                if number < most:
                    bases[lines] = cell[a, i] + cell[b, j] + cell[c, k] - low
                    numbers[lines] = number
                    lines += np.uint64(1)
    return lines


@numba.njit(nogil=True)
def _mark(coordinates, begin, end, lines_at_most, first, count, offset, cell, least, window, low, high, bits):
    """Set the bit of every reached cell from low to high - 1."""
    bases, numbers = np.empty((2, lines_at_most), np.int64)
    last, span, lines = np.uint64(coordinates.shape[1] - 1), high - low, np.uint64(0)
    within = np.uint64(max(span - 64, 0))
    for n in range(np.uint64(begin), np.uint64(end)):
        if n == np.uint64(begin) or _begins_line(coordinates, n):
            lines = _lines(coordinates, n, first, count, offset, cell, low, 1 << 62, bases, numbers)
        d = np.uint64(first[3] + coordinates[n, last])
        for t in range(lines):
            r = np.uint64(bases[t] + least[d])
            if window[d] != 0 and r < within:  # all its bits at once
                word, shift = r >> np.uint64(6), r & np.uint64(63)
                bits[word] |= window[d] << np.int64(shift)
                above = np.uint64(window[d]) >> np.uint64(1) >> np.uint64(63) - shift  # by 64 at most, in two steps
                if above:
                    bits[word + np.uint64(1)] |= np.int64(above)
                continue
            for o in range(count[d]):
                place = bases[t] + cell[d, o]
                if 0 <= place < span:
                    bits[place >> 6] |= np.int64(1) << (place & 63)


@numba.njit(nogil=True)
def _mark_apart(coordinates, begin, end, first, least, low, high, bits):
    """`_mark` where no input reaches two cells."""
    span = np.uint64(high - low)
    for n in range(np.uint64(begin), np.uint64(end)):
        a, b, c, d = _entries(coordinates, n, first)
        r = np.uint64(least[a] + least[b] + least[c] + least[d] - low)
        if r < span:
            bits[r >> np.uint64(6)] |= np.int64(1) << np.int64(r & np.uint64(63))


@numba.njit(nogil=True)
def _count_bits(bits):
    total = 0
    for w in range(bits.size):
        total += ones(bits[w])
    return total


@numba.njit(nogil=True)
def _list_bits(bits, key, position, out):
    """The numbers of the bits that are set, counted from `key`, from `position` on; returns the position behind."""
    for w in range(bits.size):
        word = bits[w]
        while word != 0:
            out[position] = key + (w << 6) + lowest(word)
            position += 1
            word &= word - 1
    return position


@compiled
def list_cells(coordinates, tasks, apart, lines_at_most, inputs, low, high, before, first, count, offset, cell, least,
               window, bits):
    """Keys (M,) of the cells low to high - 1 that inputs reach, task by task.

    tasks : (first, end);  before : (T,) key of a sample's first cell;  bits : one for each cell of these tasks
    """
    bits[:] = 0
    word = 0
    for t in range(tasks[0], tasks[1]):
        words = (high[t] - low[t] + 63) // 64
        mine = bits[word : word + words]
        for x in range(inputs.shape[1]):
            if apart:
                _mark_apart(coordinates, inputs[t, x, 0], inputs[t, x, 1], first, least, low[t], high[t], mine)
            else:
                _mark(coordinates, inputs[t, x, 0], inputs[t, x, 1], lines_at_most, first, count, offset, cell, least,
                      window, low[t], high[t], mine)
        word += words
    keys = np.empty(_count_bits(bits[:word]), np.int64)
    word = position = 0
    for t in range(tasks[0], tasks[1]):
        words = (high[t] - low[t] + 63) // 64
        position = _list_bits(bits[word : word + words], before[t] + low[t], position, keys)
        word += words
    return keys


@numba.njit(nogil=True)
def _index(keys, begin, end, bits, ranks):
    """Bits and ranks of the rows begin to end; bit 0 is the first of them."""
    for w in range(bits.size):
        bits[w] = 0
    for m in range(begin, end):
        r = keys[m] - keys[begin]
        bits[r >> 6] |= np.int64(1) << (r & 63)
    row = np.int64(begin)
    for w in range(bits.size):
        ranks[w] = row
        row += ones(bits[w])


@numba.njit(nogil=True)
def _join(coordinates, begin, end, lines_at_most, first, count, offset, cell, least, window, low, span, bits, ranks,
          counts, found):
    """List [input, output, offset] of the inputs begin to end, for the first offsets, as many as there are
    counts; returns how many were found."""
    bases, numbers = np.empty((2, lines_at_most), np.int64)
    last, total, lines = np.uint64(coordinates.shape[1] - 1), np.uint64(0), np.uint64(0)
    for n in range(np.uint64(begin), np.uint64(end)):
        if n == np.uint64(begin) or _begins_line(coordinates, n):
            lines = _lines(coordinates, n, first, count, offset, cell, low, counts.size, bases, numbers)
        d = np.uint64(first[3] + coordinates[n, last])
        for t in range(lines):
            r = np.uint64(bases[t] + least[d])
            if window[d] != 0 and r < np.uint64(span):  # most windows are empty: look at all their bits at once
                word, shift = r >> np.uint64(6), r & np.uint64(63)
                above = np.uint64(bits[word + np.uint64(1)]) << np.uint64(1) << np.uint64(63) - shift
                if (np.uint64(bits[word]) >> shift | above) & np.uint64(window[d]) == np.uint64(0):
                    continue
            for o in range(count[d]):
                r, number = np.uint64(bases[t] + cell[d, o]), np.uint64(numbers[t] + offset[d, o])
                if number < np.uint64(counts.size) and r < np.uint64(span):
                    word, bit = bits[r >> np.uint64(6)], np.int64(r & np.uint64(63))
                    if word >> bit & 1:
                        counts[number] += 1
                        found[total, 0] = n
                        found[total, 1] = ranks[r >> np.uint64(6)] + ones(word & ((np.int64(1) << bit) - 1))
                        found[total, 2] = number
                        total += np.uint64(1)
    return np.int64(total)


@numba.njit(nogil=True)
def _join_apart(coordinates, begin, end, first, offset, least, low, span, bits, ranks, counts, found):
    """`_join` where no input reaches two cells.  It shares no function for what is found: called from within these
    loops, or inlined by Numba, that made rulebooks take five times as long."""
    total = np.uint64(0)
    for n in range(np.uint64(begin), np.uint64(end)):
        a, b, c, d = _entries(coordinates, n, first)
        number = np.uint64(offset[a, 0] + offset[b, 0] + offset[c, 0] + offset[d, 0])
        r = np.uint64(least[a] + least[b] + least[c] + least[d] - low)
        if number < np.uint64(counts.size) and r < np.uint64(span):
            word, bit = bits[r >> np.uint64(6)], np.int64(r & np.uint64(63))
            if word >> bit & 1:
                counts[number] += 1
                found[total, 0] = n
                found[total, 1] = ranks[r >> np.uint64(6)] + ones(word & ((np.int64(1) << bit) - 1))
                found[total, 2] = number
                total += np.uint64(1)
    return np.int64(total)


@compiled
def look_up(coordinates, state, tasks_end, most, lines_at_most, inputs, output, rows, low, high, first, count, offset,
            cell, least, window, bits, ranks, counts, found):
    """Go on looking up what inputs reach until `found` is full or the tasks are done; returns how many were found.

    state : (4,) task, run of inputs and input to go on with, and the task whose bits there are;  most : pairs of an
    input at most;  rows : (T, 2) of the outputs of each task;  counts : of the first offsets, which are looked up
    """
    total = 0
    while state[0] < tasks_end:
        t = state[0]
        words = (high[t] - low[t] + 63) // 64
        if state[3] != t:
            _index(output, rows[t, 0], rows[t, 1], bits[: words + 1], ranks[: words + 1])
            state[3] = t
        while state[1] < inputs.shape[1]:
            begin, end = max(state[2], inputs[t, state[1], 0]), inputs[t, state[1], 1]
            stop = min(end, begin + (found.shape[0] - total) // most)
            if begin < stop:
                if most == 1:
                    total += _join_apart(coordinates, begin, stop, first, offset, least, low[t], words << 6, bits,
                                         ranks, counts, found[total:])
                else:
                    total += _join(coordinates, begin, stop, lines_at_most, first, count, offset, cell, least, window,
                                   low[t], words << 6, bits, ranks, counts, found[total:])
            if stop < end:
                state[2] = stop
                return total
            state[1] += 1
            state[2] = 0
        state[0] += 1
        state[1] = 0
    return total


@compiled
def grouped(inputs, low, high, sites, words):
    """Borders (G+1,) int64 of groups of tasks, each of so many inputs and words of bits at most, or of one task."""
    borders, size = np.zeros(low.size + 1, np.int64), 0
    looks = room = 0
    for t in range(low.size):
        more = 0
        for x in range(inputs.shape[1]):
            more += inputs[t, x, 1] - inputs[t, x, 0]
        wider = (high[t] - low[t] + 63) // 64
        looks, room = looks + more, room + wider
        if t > borders[size] and (looks > sites or room > words):
            size += 1
            borders[size] = t
            looks, room = more, wider
    borders[size + 1] = low.size
    return borders[: size + 2]


@compiled
def write_table(found, count, table):
    for i in range(count):
        table[found[i, 1], found[i, 2]] = found[i, 0]


@compiled
def by_offset(found, count, position, out):
    """Sort what was found by offset; position : (K,) where each offset's pairs begin."""
    for i in range(count):
        p = position[found[i, 2]]
        position[found[i, 2]] = p + 1
        out[p, 0] = found[i, 0]
        out[p, 1] = found[i, 1]


@compiled
def copy_lists(source, counts, starts, mirrored, mirror, out):
    p = 0
    for k in range(counts.size):
        for i in range(counts[k]):
            n, m = source[p, 0], source[p, 1]
            out[starts[k] + i, 0] = n
            out[starts[k] + i, 1] = m
            if mirror:
                out[mirrored[k] + i, 0] = m
                out[mirrored[k] + i, 1] = n
            p += 1
