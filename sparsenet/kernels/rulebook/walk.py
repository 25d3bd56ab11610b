"""Rulebooks on a CPU by walking sorted keys: for grids so large and empty that bit maps cost more.

Sites are sorted by key, and for one kernel offset the input cell `output * stride - padding + offset *
dilation` grows with the output, in the same order.  So nothing is hashed or sorted here: sorted lists are
walked side by side, with memory read in order.

    output_keys a box-shaped filter is separable: the joined cells are found axis by axis, each
                time as the merge of the K_axis shifted copies of one sorted list.
    neighbours  one walk for each line of kernel offsets (all axes but the last); the offsets of
                a line lie next to each other, so they share the walk.

Blocks are whole samples (output_keys) or groups of output rows (neighbours).
"""

from __future__ import annotations

from math import prod

import numba
import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks, run_rows

_ROWS = 4096  # output rows of a block


def output_keys(keys, batch_splits, spatial_size, output_size, kernel_size, stride, padding, dilation):
    """Sorted distinct keys (M,) int64 of the cells that some kernel offset joins to a site."""
    samples = batch_splits.size - 1
    parts: list[np.ndarray] = [keys[:0]] * samples
    cells_in, cells_out = prod(spatial_size), prod(output_size)
    axes = list(zip(spatial_size, output_size, kernel_size, stride, padding, dilation, strict=True))
    # The last axis first; those that grow (by padding) after the others, so that no grid in between has more cells
    # than the first or the last, whose keys fit int64.
    order = sorted(reversed(range(len(axes))), key=lambda axis: output_size[axis] > spatial_size[axis])

    def block(sample: int) -> None:
        part = keys[batch_splits[sample] : batch_splits[sample + 1]] - sample * cells_in
        sides = list(spatial_size)
        for axis in order:
            offsets, side, inner = kernel_size[axis], output_size[axis], prod(sides[axis + 1:])
            merged = np.empty(part.size * min(offsets, side), np.int64)
            walks = np.full((2, offsets), -1, np.int64)
            count = _merge_axis(part, inner, axes[axis], np.empty((3, part.size), np.int64), walks, merged)
            part = merged[:count]
            sides[axis] = side
        parts[sample] = part + sample * cells_out

    run_blocks(block, samples)
    return np.concatenate(parts) if parts else keys[:0].copy()


@compiled
def _merge_axis(keys, inner, axis, scratch, walks, out):
    """Replace one axis of sorted keys by the output coordinates that it is joined to; sorted, each once, in `out`.

    key = (outer * size_in + c) * inner + r   ->   (outer * size_out + joined) * inner + r

    joined = (c + padding - k * dilation) / stride, for offsets k that leave no remainder and lead to a cell: found by
    the quotients and remainders of c + padding and of k * dilation, which are divided once.

    axis : (size_in, size_out, kernel, stride, padding, dilation)
    scratch : (3, n);  walks : (2, K) -1, the walks' rows and the keys at their heads.
    Returns the number of keys.  (No NumPy function is called here: it would have to be compiled.)
    """
    size_in, size_out, offsets, stride, padding, dilation = axis
    n = keys.size
    row, head = walks[0], walks[1]
    base, quotient, remainder = scratch[0], scratch[1], scratch[2]
    for i in range(n):
        line = keys[i] // inner
        outer = line // size_in
        place = line - outer * size_in + padding
        base[i] = outer * size_out * inner + (keys[i] - line * inner)
        quotient[i] = place // stride
        remainder[i] = place - quotient[i] * stride
    end = np.int64(9223372036854775807)
    count = 0
    value = np.int64(-1)
    while True:
        smallest = end
        for k in range(offsets):
            if head[k] == value:  # taken: move to the next site that this offset joins
                back = k * dilation // stride
                rest = k * dilation - back * stride
                i = row[k] + 1
                while i < n and not (remainder[i] == rest and 0 <= quotient[i] - back < size_out):
                    i += 1
                row[k] = i
                head[k] = base[i] + (quotient[i] - back) * inner if i < n else end
            if head[k] < smallest:
                smallest = head[k]
        if smallest == end:
            break
        value = smallest
        out[count] = value
        count += 1
    return count


def neighbours(keys, output_coordinates, spatial_size, output_size, kernel_size, stride, padding, dilation):
    """(M, K) int32: row of the input site under each kernel offset, -1 if there is none."""
    rows = output_coordinates.shape[0]
    spatial_size, kernel_size, stride, padding, dilation = (
        np.array(axis, np.int64) for axis in (spatial_size, kernel_size, stride, padding, dilation))
    table = np.empty((rows, int(kernel_size.prod())), np.int32)
    lead = kernel_size[:-1]
    lines = np.stack(np.unravel_index(np.arange(int(lead.prod())), lead), axis=1) if lead.size else (
        np.zeros((1, 0), np.int64)
    )
    lines = np.ascontiguousarray(lines * dilation[:-1], dtype=np.int64)

    def block(start: int, stop: int) -> None:
        position = np.zeros(lines.shape[0], np.int64)
        _walk(keys, output_coordinates, (spatial_size, stride, padding), (lines, kernel_size[-1], dilation[-1]),
              position, table, start, stop)

    run_rows(block, rows, _ROWS)
    return table


@compiled
def _walk(keys, coordinates, axes, offset_lines, position, table, start, stop):
    """Fill rows `start` to `stop` - 1 of the table.

    axes : (spatial_size, stride, padding), each (D,) int64
    offset_lines : the lines of offsets (lines, D-1), less the padding; the offsets of a line; their dilation
    position : (lines,) 0, where each line's walk stands
    """
    (spatial_size, stride, padding), (lines, line_offsets, line_dilation) = axes, offset_lines
    dimension = spatial_size.size
    last = dimension - 1
    length = spatial_size[last]
    n = keys.size
    for m in range(start, stop):
        first = np.int64(coordinates[m, dimension]) * stride[last] - padding[last]
        low = min(max(first, 0), length)
        for line in range(lines.shape[0]):
            column = line * line_offsets
            base = np.int64(coordinates[m, 0])
            inside = True
            for axis in range(last):
                c = np.int64(coordinates[m, axis + 1]) * stride[axis] - padding[axis] + lines[line, axis]
                inside = inside and 0 <= c < spatial_size[axis]
                base = base * spatial_size[axis] + c
            base *= length
            if not inside:
                for k in range(line_offsets):
                    table[m, column + k] = -1
                continue
            p = _advance(keys, position[line], base + low)
            position[line] = p
            for k in range(line_offsets):
                z = first + k * line_dilation
                row = np.int64(-1)
                if 0 <= z < length:
                    p = _advance(keys, p, base + z)
                    if p < n and keys[p] == base + z:
                        row = p
                table[m, column + k] = row


@numba.njit(nogil=True)
def _advance(keys, p, key):
    """The first row from p on whose key is not below `key`: nearly always p or the next; otherwise strides that double
    find it, so that keys which a dilation or a gap between outputs leaps over cost nothing."""
    n = keys.size
    stride = 1
    while p < n and keys[p] < key:
        p += 1
        if p + stride < n and keys[p + stride] < key:
            p += stride
            stride *= 2
        else:
            stride = max(stride // 2, 1)
    return p
