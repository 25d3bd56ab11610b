"""Loops over rows (N, C), channel by channel, that norms of a batch and of a sample share.

    rows start to stop  | 4 rows | 4 rows | ...        whose sums stay in registers, in float64
"""

from __future__ import annotations

from sparsenet.kernels.cpu.lanes import doubles, fma, load, load_some, store, store_some
from sparsenet.kernels.cpu.numba_cache import compiled

BLOCK = 1 << 16  # elements
ROWS = 4  # rows whose sums stay in registers: with more, a CPU no longer predicts which line is read next
WIDTH = 16  # channels side by side


def rows_of_block(channels: int) -> int:
    """Rows of a block."""
    return max(ROWS, BLOCK // max(1, channels))


@compiled
def sum_distances(values, shift, start, stop, out):
    """Sums (2, C) over rows start to stop of the distance from `shift`, and of its square."""
    channels, nothing = values.shape[1], values.dtype.type(0)
    for above in range(start, stop, ROWS):
        below, first = min(above + ROWS, stop), 0
        while first + WIDTH <= channels:
            centre = load(shift, first, WIDTH)
            total, squares = load(out, (0, first), WIDTH), load(out, (1, first), WIDTH)
            for row in range(above, below):
                distance = doubles(load(values, (row, first), WIDTH)) - centre
                total = total + distance
                squares = fma(distance, distance, squares)
            store(out, (0, first), total)
            store(out, (1, first), squares)
            first += WIDTH
        rest = channels - first
        if rest > 0:
            centre = load_some(shift, first, rest, 0.0, WIDTH)
            total = load_some(out, (0, first), rest, 0.0, WIDTH)
            squares = load_some(out, (1, first), rest, 0.0, WIDTH)
            for row in range(above, below):
                distance = doubles(load_some(values, (row, first), rest, nothing, WIDTH)) - centre
                total = total + distance
                squares = fma(distance, distance, squares)
            store_some(out, (0, first), rest, total)
            store_some(out, (1, first), rest, squares)


@compiled
def normalise(values, mean, scale, bias, start, stop, out):
    """out = (x - mean) scale + bias, of rows start to stop."""
    for row in range(start, stop):
        for c in range(values.shape[1]):
            out[row, c] = (values[row, c] - mean[c]) * scale[c] + bias[c]


@compiled
def sum_slopes(values, gradient, mean, start, stop, out):
    """Sums (2, C) over rows start to stop of the gradient, and of the gradient times the distance from the mean."""
    channels, nothing = values.shape[1], values.dtype.type(0)
    for above in range(start, stop, ROWS):
        below, first = min(above + ROWS, stop), 0
        while first + WIDTH <= channels:
            centre = load(mean, first, WIDTH)
            total, product = load(out, (0, first), WIDTH), load(out, (1, first), WIDTH)
            for row in range(above, below):
                slope = doubles(load(gradient, (row, first), WIDTH))
                total = total + slope
                product = fma(slope, doubles(load(values, (row, first), WIDTH)) - centre, product)
            store(out, (0, first), total)
            store(out, (1, first), product)
            first += WIDTH
        rest = channels - first
        if rest > 0:
            centre = load_some(mean, first, rest, 0.0, WIDTH)
            total = load_some(out, (0, first), rest, 0.0, WIDTH)
            product = load_some(out, (1, first), rest, 0.0, WIDTH)
            for row in range(above, below):
                slope = doubles(load_some(gradient, (row, first), rest, nothing, WIDTH))
                total = total + slope
                distance = doubles(load_some(values, (row, first), rest, nothing, WIDTH)) - centre
                product = fma(slope, distance, product)
            store_some(out, (0, first), rest, total)
            store_some(out, (1, first), rest, product)


@compiled
def differentiate(values, gradient, mean, share, slope, scale, start, stop, out):
    """out = (gradient - share - (x - mean) slope) scale, of rows start to stop."""
    for row in range(start, stop):
        for c in range(values.shape[1]):
            out[row, c] = (gradient[row, c] - share[c] - (values[row, c] - mean[c]) * slope[c]) * scale[c]


@compiled
def join_chunks(partial, owners, out):
    """Add the sums (2, C) of each chunk to those of its run, chunk after chunk."""
    for chunk in range(partial.shape[0]):
        for i in range(2):
            for c in range(partial.shape[2]):
                out[owners[chunk], i, c] += partial[chunk, i, c]
