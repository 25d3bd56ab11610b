"""Max-pooling over the windows of a rulebook, with the background as a competitor.

    out[m, c]    = max over k of  features[windows[m, k], c]   (background[c] if it is -1; -2 is skipped)
    argmax[m, c] = the first offset k that attains it

The background is one row, or one row for each sample.  Without a background, inactive cells are skipped, and a window
without a site gives 0 and argmax 0.  NaN wins, as in PyTorch; of several NaNs the last.

Backward, each output's gradient goes to the cell that its argmax names.  A block holds the outputs of one sample and
one slice of the channels, so no two blocks touch the same element and every sum is taken in row order.  A block clears
the gradient of its sample's inputs shortly before it adds to them, so that they stay in the cache; for that the inputs
of a sample have to lie before those of the next one.  The gradients of the backgrounds are rows behind those of the
inputs: no branch has to tell the two apart.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.cpu.bits import lowest
from sparsenet.kernels.cpu.lanes import load_either, load_some, prefetch, select, spread, store
from sparsenet.kernels.cpu.lanes_joined import bits_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks, run_rows
from sparsenet.kernels.pooling import sums  # noqa: F401  (registers its kernels)
from sparsenet.kernels.pooling.ahead import AHEAD, read_rows
from sparsenet.kernels.pooling.contract import MAX_POOL_BACKWARD as BACKWARD
from sparsenet.kernels.pooling.contract import MAX_POOL_FORWARD as FORWARD
from sparsenet.kernels.table import launch

_FLOATS = 1 << 16  # outputs (rows * channels) of a forward block
_CHANNELS = 16  # the slices of the backward pass are multiples of 16 channels: whole cache lines
_MIN_BLOCKS = 32  # of the backward pass, if there are few samples: so many threads can help
_WIDTH = 32  # channels that the forward pass holds in registers at a time
_INACTIVE, _OUTSIDE = np.int32(-1), np.int32(-2)  # entries of a window that are not rows
_CLEARED = 1 << 16  # bytes that the backward pass clears at a time: they stay in the second cache


@FORWARD.implementation("cpu")
def _forward_cpu(features, background, windows, output_coordinates, relative):
    """((M, C) values, (M, C) int16 argmax); background has 1 row or one for each sample.  relative: the background is
    subtracted from the values."""
    rows, channels = windows.shape[0], features.shape[1]
    out, argmax = np.empty((rows, channels), features.dtype), np.empty((rows, channels), np.int16)
    skip = background is None
    competitor = np.zeros((1, channels), features.dtype) if skip else background
    forward = _forward_lanes if channels >= _WIDTH and windows.shape[1] <= 64 else _forward
    run_rows(lambda start, stop: forward(features, competitor, skip, windows[start:stop],
                                         output_coordinates[start:stop], out[start:stop], argmax[start:stop]),
             rows, max(1, _FLOATS // max(channels, 1)))
    if relative and background is not None:
        out = launch("subtract_sample_rows", out, background, output_coordinates)
    return out, argmax


@compiled
def _forward(features, background, skip_inactive, windows, coordinates, out, argmax):
    channels = features.shape[1]
    for m in range(windows.shape[0]):
        sample = coordinates[m, 0] if background.shape[0] > 1 else 0
        empty = True  # nothing in the window yet
        skip = skip_inactive  # once the background has competed, further inactive cells are skipped
        for k in range(windows.shape[1]):
            n = windows[m, k]
            if n < 0:
                if skip or n == _OUTSIDE:
                    continue
                skip = True
                row = background[sample]
            else:
                row = features[n]
            if empty:
                empty = False
                for c in range(channels):
                    out[m, c] = row[c]
                    argmax[m, c] = k
            else:
                for c in range(channels):
                    value = row[c]
                    if value > out[m, c] or value != value:
                        out[m, c] = value
                        argmax[m, c] = k
        if empty:
            _set_to_zero(out[m], argmax[m])


@numba.njit(nogil=True)
def _set_to_zero(out, argmax):
    for c in range(out.size):
        out[c] = argmax[c] = 0


@compiled
def _forward_lanes(features, background, skip_inactive, windows, coordinates, out, argmax):
    """The same for at least 32 channels and at most 64 offsets: windows as bits, maxima in registers.

    No comparison finds NaN larger, so a row with NaN is computed again by `_forward`; the sum of everything compared
    is NaN then.
    """
    rows, channels = windows.shape[0], features.shape[1]
    sites, cells = _offsets_with(windows)
    step, begin, there = max(1, AHEAD // channels), 0, -1  # `there`: the last row that is in the cache
    for m in range(rows):
        if m == begin:
            begin = min(m + step, rows)
            there = read_rows(features, windows, m, begin, there)
        window = sites[m]
        if not skip_inactive:
            inactive = cells[m] & ~window
            window |= inactive & -inactive  # the lowest bit: the background competes at the first inactive offset
        if window == 0:
            _set_to_zero(out[m], argmax[m])
            continue
        sample, has_nan = coordinates[m, 0] if background.shape[0] > 1 else 0, False
        for start in range(0, channels, _WIDTH):
            c = min(start, channels - _WIDTH)  # the last 32 channels overlap others unless they are a multiple of 32
            k = lowest(window)
            waiting = window & (window - 1)  # without the lowest bit
            n = windows[m, k]
            total = best = load_either(n >= 0, features, (n, c), background, (sample, c), _WIDTH)
            where = spread(np.int32(k), _WIDTH)
            while waiting != 0:
                k = lowest(waiting)
                waiting &= waiting - 1
                n = windows[m, k]
                value = load_either(n >= 0, features, (n, c), background, (sample, c), _WIDTH)
                total = total + value
                wins = value > best
                best = select(wins, value, best)
                where = select(wins, np.int32(k), where)
            store(out, (m, c), best)
            store(argmax, (m, c), where)
            has_nan |= bits_of(total != total) != 0
        if has_nan:
            one = slice(m, m + 1)
            _forward(features, background, skip_inactive, windows[one], coordinates[one], out[one], argmax[one])


@numba.njit(inline="always")
def _offsets_with(windows):
    """(M,) int64 twice: of each window, the offsets with a site, and those with a cell of the grid, as bits."""
    rows, offsets = windows.shape
    sites, cells = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for m in range(rows):
        below = load_some(windows, (m, 0), offsets, _OUTSIDE, _WIDTH)
        sites[m], cells[m] = bits_of(below > _INACTIVE), bits_of(below > _OUTSIDE)
        if offsets > _WIDTH:
            above = load_some(windows, (m, _WIDTH), offsets - _WIDTH, _OUTSIDE, _WIDTH)
            sites[m] |= bits_of(above > _INACTIVE) << _WIDTH
            cells[m] |= bits_of(above > _OUTSIDE) << _WIDTH
    return sites, cells


@BACKWARD.implementation("cpu")
def _backward_cpu(gradient, argmax, rulebook, batch_splits):
    """((N, C) gradient of the features, (B, C) gradient of the background in each sample).  Without splits all
    rows count as one sample: (1, C).

    Raises
    ------
    ValueError : inputs of one sample lie among those of another.
    """
    neighbours, inputs = rulebook.neighbours, rulebook.shape[0]
    splits = [0, len(gradient)] if batch_splits is None else batch_splits.tolist()
    channels, samples = gradient.shape[1], len(splits) - 1
    largest_first = sorted(range(samples), key=lambda sample: splits[sample] - splits[sample + 1])
    slices = min(-(-channels // _CHANNELS), -(-_MIN_BLOCKS // max(samples, 1)))
    width = -(-channels // (_CHANNELS * max(slices, 1))) * _CHANNELS
    out = np.empty((inputs + samples, channels), gradient.dtype)
    cleared = np.zeros((samples, 2), np.int64)  # inputs from and to; equal in all slices of a sample

    def block(index: int) -> None:
        sample, part = largest_first[index // slices], index % slices
        rows = slice(splits[sample], splits[sample + 1])
        columns = part * width, min((part + 1) * width, channels)
        _backward(gradient[rows], argmax[rows], neighbours[rows], inputs, inputs + sample, columns, out,
                  cleared[sample])

    run_blocks(block, samples * slices)
    _clear_others(out[:inputs], cleared)
    return out[:inputs], out[inputs:].copy()  # a copy: it must not keep the memory of the inputs alive


@compiled
def _backward(gradient, argmax, neighbours, inputs, background, columns, out, cleared_rows):
    """Add the gradients of a sample's outputs, row by row, to the inputs that won, or to the background.

    The inputs are cleared in steps of _CLEARED bytes, shortly before the first window that needs them, and the memory
    that is cleared next is prefetched meanwhile.

    background : the row of `out` for the gradient of the sample's background
    columns : the first channel, and the one behind the last
    cleared_rows : receives the range of inputs that were cleared
    """
    start, stop = np.uint64(columns[0]), np.uint64(columns[1])  # unsigned: Numba adds no code for negative indices
    flat, channels, (rows, offsets) = out.reshape(-1), out.shape[1], neighbours.shape
    background_start = np.uint64(background * channels)
    for c in range(start, stop):
        flat[background_start + c] = 0
    first, end = _input_range(neighbours, inputs)
    cleared, step = first, _CLEARED // (channels * out.itemsize) + 1
    whole = columns[1] - columns[0] == channels  # the rows are one run of memory
    prefetched, per_output = np.int64(0), ((end - first) * channels) // max(1, rows) + 2 * _CHANNELS  # elements
    row_starts = np.empty(offsets, np.uint64)  # in `flat`, of the row that each offset of the window names
    for m in range(rows):
        needed = np.int64(-1)
        for k in range(offsets):
            n = np.int64(neighbours[m, k])
            needed = max(needed, n)
            row_starts[k] = np.uint64(n * channels) if n >= 0 else background_start
        if cleared <= needed:
            until = max(needed + 1, min(cleared + step, end))
            if whole:
                for i in range(np.uint64(cleared * channels), np.uint64(until * channels)):
                    flat[i] = 0
            else:
                for n in range(cleared, until):
                    for c in range(start, stop):
                        out[n, c] = 0
            cleared = until
            prefetched = max(prefetched, cleared * channels)
        if whole:
            limit = min(prefetched + per_output, min(cleared + step, end) * channels)
            while prefetched < limit:
                prefetch(flat, prefetched, _CHANNELS)
                prefetched += _CHANNELS
        for c in range(start, stop):
            flat[row_starts[np.uint64(argmax[m, c])] + c] += gradient[m, c]
    cleared_rows[0], cleared_rows[1] = first, cleared


@numba.njit(inline="always")
def _input_range(neighbours, inputs):
    """The lowest input that the neighbours name, and the one behind the highest; (inputs, 0) if they name none."""
    lowest_input, highest = np.uint32(inputs), np.int64(-1)
    entries = neighbours.reshape(-1)
    for i in range(entries.size):
        lowest_input = min(lowest_input, np.uint32(entries[i]))  # as uint32, -1 is the largest number
        highest = max(highest, entries[i])
    return np.int64(lowest_input), highest + 1


def _clear_others(out: np.ndarray, cleared: np.ndarray) -> None:
    """Clear the inputs that are in no window."""
    behind = 0
    for sample, (first, end) in enumerate(cleared.tolist()):
        if first < end:
            if first < behind:
                raise ValueError(f"max_pool_backward: neighbours of sample {sample} begin with input {first}, expected "
                                 f"{behind} or more, behind those of the samples before it: sort the sites")
            out[behind:first] = 0
            behind = end
    out[behind:] = 0


@FORWARD.reads("cpu")
def _forward_reads(rulebook):
    return ("windows",)


@BACKWARD.reads("cpu")
def _backward_reads(rulebook):
    return ("neighbours",)
