"""Max-pooling over the neighbour table, with the background as a competitor.

    out[m, c]    = max over k of  features[neighbours[m, k], c]   (background[c] where it is -1)
    argmax[m, c] = the first offset k that attains it

The background is one row, or one row for each sample.  Without a background, inactive cells are
passed over, and a window of nothing else gives 0 and argmax 0.  NaN wins, as in PyTorch, the last of several.
Backward, each output's gradient goes to the cell that its argmax names.  On a CPU it is sent there: one block holds the
outputs of one sample and one slice of the channels, so no two blocks touch the same element and every sum is
taken in row order.  It clears the gradient of its sample's inputs as it goes, shortly before it adds to them,
so that it stays in the cache: a sample's inputs lie before those of the next one.  The sample's background has
a row behind those of the inputs, so that no branch tells it from them.  On a GPU every input collects it, from
the windows that its row of the transposed neighbours names, in the same order.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.contracts import MAX_POOL_BACKWARD as BACKWARD
from sparsenet.kernels.contracts import MAX_POOL_FORWARD as FORWARD
from sparsenet.kernels.cpu.bits import lowest
from sparsenet.kernels.cpu.lanes import load_either, load_some, prefetch, select, spread, store
from sparsenet.kernels.cpu.lanes_joined import bits_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.table import launch

_FLOATS = 1 << 16  # outputs (rows * channels) of a forward block
_CHANNELS = 16  # a backward block has a multiple of them: whole cache lines
_LEAST_BLOCKS = 32  # of backward, where samples are few: threads that can help
_WIDTH = 32  # channels that forward has in registers at a time
_AHEAD = 8  # rows: how early forward asks for a window's inputs
_CLEARED = 1 << 16  # bytes that backward clears at a time: they stay in the second cache


@FORWARD.implementation("cpu")
def _forward_cpu(features, background, neighbours, output_coordinates, relative):
    """((M, C) values, (M, C) int16 argmax); background has 1 row or one for each sample.  relative: the background is
    subtracted from the values."""
    rows, channels = neighbours.shape[0], features.shape[1]
    out, argmax = np.empty((rows, channels), features.dtype), np.empty((rows, channels), np.int16)
    step = max(1, _FLOATS // max(channels, 1))
    skip = background is None
    ground = np.zeros((1, channels), features.dtype) if skip else background
    forward = _forward_lanes if channels >= _WIDTH and neighbours.shape[1] <= 64 else _forward

    def block(index: int) -> None:
        chosen = slice(index * step, (index + 1) * step)
        forward(features, ground, skip, neighbours[chosen], output_coordinates[chosen], out[chosen], argmax[chosen])

    run_blocks(block, -(-rows // step))
    if relative and background is not None:
        out = launch("subtract_sample_rows", out, background, output_coordinates)
    return out, argmax


@compiled
def _forward(features, background, skip_inactive, neighbours, coordinates, out, argmax):
    channels = features.shape[1]
    for m in range(neighbours.shape[0]):
        sample = coordinates[m, 0] if background.shape[0] > 1 else 0
        first = True  # nothing in the window yet
        ground = skip_inactive  # the background has had its turn
        for k in range(neighbours.shape[1]):
            n = neighbours[m, k]
            if n < 0:
                if ground:
                    continue
                ground = True
                row = background[sample]
            else:
                row = features[n]
            if first:
                first = False
                for c in range(channels):
                    out[m, c] = row[c]
                    argmax[m, c] = k
            else:
                for c in range(channels):
                    value = row[c]
                    if value > out[m, c] or value != value:
                        out[m, c] = value
                        argmax[m, c] = k
        if first:
            _nothing(out[m], argmax[m])


@numba.njit(nogil=True)
def _nothing(out, argmax):
    for c in range(out.size):
        out[c] = argmax[c] = 0


@compiled
def _forward_lanes(features, background, skip_inactive, neighbours, coordinates, out, argmax):
    """The same for 32 channels and more and 64 offsets at most: windows as bits, maxima in registers.

    NaN is never larger, so its rows are done again; the sum of all that was compared tells which they are.
    """
    (rows, offsets), channels = neighbours.shape, features.shape[1]
    every, none = (2 << (offsets - 1)) - 1, np.int32(-1)
    windows = np.zeros(rows + _AHEAD, np.int64)
    for m in range(rows):
        windows[m] = bits_of(load_some(neighbours, (m, 0), offsets, none, _WIDTH) > none)
        if offsets > _WIDTH:
            above = load_some(neighbours, (m, _WIDTH), offsets - _WIDTH, none, _WIDTH) > none
            windows[m] |= bits_of(above) << _WIDTH
    for m in range(rows):
        coming = windows[m + _AHEAD]
        while coming != 0:
            n = neighbours[m + _AHEAD, lowest(coming)]
            coming &= coming - 1
            for c in range(0, channels, _WIDTH):
                prefetch(features, (n, c), _WIDTH)
        window = windows[m]
        if not skip_inactive:
            inactive = every & ~window
            window |= inactive & -inactive  # the first of them: the background's turn
        if window == 0:
            _nothing(out[m], argmax[m])
            continue
        sample = coordinates[m, 0] if background.shape[0] > 1 else 0
        for start in range(0, channels, _WIDTH):
            c = min(start, channels - _WIDTH)  # the last 32 again where channels are no multiple
            k = lowest(window)
            waiting = window & (window - 1)
            n = neighbours[m, k]
            total = best = load_either(n >= 0, features, (n, c), background, (sample, c), _WIDTH)
            where = spread(np.int32(k), _WIDTH)
            while waiting != 0:
                k = lowest(waiting)
                waiting &= waiting - 1
                n = neighbours[m, k]
                value = load_either(n >= 0, features, (n, c), background, (sample, c), _WIDTH)
                total = total + value
                wins = value > best
                best = select(wins, value, best)
                where = select(wins, np.int32(k), where)
            store(out, (m, c), best)
            store(argmax, (m, c), where)
            if bits_of(total != total) != 0:
                one = slice(m, m + 1)
                _forward(features, background, skip_inactive, neighbours[one], coordinates[one], out[one], argmax[one])


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
    order = sorted(range(samples), key=lambda sample: splits[sample] - splits[sample + 1])  # the largest first
    slices = min(-(-channels // _CHANNELS), -(-_LEAST_BLOCKS // max(samples, 1)))
    width = -(-channels // (_CHANNELS * max(slices, 1))) * _CHANNELS
    out = np.empty((inputs + samples, channels), gradient.dtype)
    cleared = np.zeros((samples, 2), np.int64)  # the same by each slice

    def block(index: int) -> None:
        sample, part = order[index // slices], index % slices
        _backward(gradient, argmax, neighbours, splits[sample], splits[sample + 1], part * width,
                  min((part + 1) * width, channels), inputs, inputs + sample, out, cleared[sample])

    run_blocks(block, samples * slices)
    _clear_others(out[:inputs], cleared)
    return out[:inputs], out[inputs:].copy()  # who keeps the background's gradient keeps no more


@compiled
def _backward(gradient, argmax, neighbours, first, last, start, stop, inputs, ground, out, rows):
    """rows : gets the rows that were cleared: the first, and the one behind the last;  ground : row of `out` for the
    background's gradient"""
    least, highest = np.uint32(inputs), np.int64(-1)
    entries = neighbours[first:last].reshape(-1)
    for i in range(entries.size):
        least = min(least, np.uint32(entries[i]))  # -1 is the largest number then
        highest = max(highest, entries[i])
    flat, channels, offsets = out.reshape(-1), out.shape[1], neighbours.shape[1]
    step = _CLEARED // (channels * out.itemsize) + 1
    whole = stop - start == channels  # one run of memory
    share = ((highest - least + 1) * channels) // max(1, last - first) + 2 * _CHANNELS  # elements asked for with a row
    cleared, behind, asked = np.int64(least), np.uint64(ground * channels), np.int64(0)
    starts = np.empty(offsets, np.uint64)  # of the rows that the window's offsets name, among all elements
    start, stop = np.uint64(start), np.uint64(stop)  # what may be negative is looked at again for each element
    for c in range(start, stop):
        flat[behind + c] = 0
    for m in range(first, last):
        top = np.int64(-1)
        for k in range(offsets):
            n = np.int64(neighbours[m, k])
            top = max(top, n)
            starts[k] = np.uint64(n * channels) if n >= 0 else behind
        if cleared <= top:
            end = max(top + 1, min(cleared + step, highest + 1))
            if whole:
                for i in range(np.uint64(cleared * channels), np.uint64(end * channels)):
                    flat[i] = 0
            else:
                for n in range(cleared, end):
                    for c in range(start, stop):
                        out[n, c] = 0
            cleared = end
            asked = max(asked, cleared * channels)
        if whole:  # the memory that is cleared next
            until = min(asked + share, min(cleared + step, highest + 1) * channels)
            while asked < until:
                prefetch(flat, asked, _CHANNELS)
                asked += _CHANNELS
        for c in range(start, stop):
            flat[starts[np.uint64(argmax[m, c])] + c] += gradient[m, c]
    rows[0], rows[1] = least, cleared


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
@BACKWARD.reads("cpu")
def _reads(rulebook):
    return ("neighbours",)
