"""Softmax cross-entropy, and its gradient with it: mean over the rows of -log(softmax(logits)[label]).

    e[j] = exp(logits[j] - max)      total = sum of e      loss of a row = log(total) + max - logits[label]
    gradient[j] = (e[j] / total - (j == label)) / B

The gradient takes what the loss needs anyway, so it is made in the same pass; backward only scales it.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from sparsenet.kernels.contracts import SOFTMAX_CROSS_ENTROPY
from sparsenet.kernels.cpu import memory
from sparsenet.kernels.cpu.exponential import exponential
from sparsenet.kernels.cpu.lanes import load, load_some, maximum, prefetch, store, store_some
from sparsenet.kernels.cpu.lanes_joined import maximum_of, total_of
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.losses.mean import mean_on_host

_BLOCK = 1 << 18  # numbers: whole rows, at least one
_WIDTH = 16  # lanes of a row; the order of its sum, and so its bits, depends on it
_GROUP = 16  # rows: some kilobytes; the product of so many totals is below 2^496
_AHEAD = 32  # rows: how early they are asked for
_MOST_UNROLLED = 128  # classes


@SOFTMAX_CROSS_ENTROPY.implementation("cpu")
def _cpu(logits, labels, with_gradient):
    """loss (), figures (2,) float64 and gradient (B, C), or None if not asked for.

    figures : the loss once more, and the number of rows whose label is the first of the largest logits, together
        for one copy to the host
    A label that is no class makes the loss NaN.  An empty batch has loss 0.
    """
    batch, classes = logits.shape
    rows = max(1, _BLOCK // classes)
    sums, share = np.zeros((-(-batch // rows), 2)), 1 / max(1, batch)
    gradient = memory.empty(logits.shape, logits.dtype) if with_gradient else None
    add_up = _rows_double
    if logits.dtype == np.float32:
        add_up = _rows_float(classes if classes <= _MOST_UNROLLED else 0)

    def block(index: int) -> None:
        chosen = slice(index * rows, (index + 1) * rows)
        if with_gradient:
            out, step = gradient[chosen].reshape(-1), classes
        else:  # the double precision loop writes each row over the last one
            out, step = np.empty(classes, logits.dtype), 0
        add_up(logits[chosen].reshape(-1), labels[chosen], classes, share, out, step, sums[index])

    run_blocks(block, len(sums))
    return *mean_on_host(sums, batch, logits.dtype), gradient


@cache
def _rows_float(known):
    """The loop over the rows of float32, compiled for so many classes, whose loops over them are unrolled then; 0 for
    any number, with which thousands of rows take up to a fifth longer."""

    def rows_float(logits, labels, given_classes, share, out, step, sums):
        """Adds the rows' losses to sums[0], those that are right to sums[1]; row i's gradient goes to out[i * step].

        _GROUP rows at a time go from one step to the next: the processor has several of them under way, where in one
        row each step would wait for the end of the last.  One logarithm serves for a group, of the product of its
        totals, each of which is from 1 to C < 2^31.
        """
        classes = known if known > 0 else given_classes
        lowest, own_share = np.float32(-np.inf), np.float32(share)
        rest = classes % _WIDTH
        full, right = classes - rest, 0
        padded = full + _WIDTH * (rest > 0)
        tops, totals, scales = np.empty((3, _GROUP), np.float32)
        terms = np.empty(min(_GROUP, labels.size) * padded, np.float32)  # e of a group; 0 behind the last class
        for first in range(0, labels.size, _GROUP):
            rows = min(_GROUP, labels.size - first)
            for i in range(rows):
                row = (first + i) * classes
                largest = load_some(logits, row + full, rest, lowest, _WIDTH)
                for j in range(row, row + full, _WIDTH):
                    largest = maximum(load(logits, j, _WIDTH), largest)
                tops[i] = maximum_of(largest)
            for i in range(rows):
                row, there, top = (first + i) * classes, i * padded, tops[i]
                total = exponential(load_some(logits, row + full, rest, lowest, _WIDTH) - top)
                if rest:
                    store(terms, there + full, total)
                for j in range(0, full, _WIDTH):
                    e = exponential(load(logits, row + j, _WIDTH) - top)
                    store(terms, there + j, e)
                    total = total + e
                totals[i] = total_of(total)
                for j in range(0, classes, _WIDTH):  # those after the next ones, while the processor computes
                    prefetch(logits, row + _AHEAD * classes + j, _WIDTH)
            product = 1.0
            for i in range(rows):
                product *= totals[i]
                if not step:
                    continue
                here, there, scale = i * padded, (first + i) * step, np.float32(share / totals[i])
                scales[i] = scale
                for j in range(0, full, _WIDTH):
                    store(out, there + j, load(terms, here + j, _WIDTH) * scale)
                if rest:
                    store_some(out, there + full, rest, load(terms, here + full, _WIDTH) * scale)
            loss = math.log(product)
            for i in range(rows):
                row, label, top = (first + i) * classes, np.uint64(labels[first + i]), tops[i]
                if label >= np.uint64(classes):  # a negative one is huge
                    loss = np.nan
                    continue
                given = logits[np.uint64(row) + label]  # an index that cannot be negative is not looked at again
                loss += np.float64(top) - np.float64(given)
                if step:
                    own = terms[np.uint64(i * padded) + label] * scales[i] - own_share
                    out[np.uint64((first + i) * step) + label] = own
                if given == top:
                    right += _is_first(logits, row, row + labels[first + i])
            sums[0] += loss
        sums[1] += right

    rows_float.__qualname__ += f"_{known}"  # a file of its own in Numba's cache, where only types are told apart
    return compiled(rows_float, error_model="numpy")


@compiled(error_model="numpy")
def _rows_double(logits, labels, classes, share, out, step, sums):
    """As `_rows_float`, number by number."""
    for i in range(labels.size):
        row, there, label = i * classes, i * step, labels[i]
        top, total = logits[row], 0.0
        for j in range(row, row + classes):
            top = logits[j] if logits[j] > top else top
        for j in range(classes):
            e = math.exp(logits[row + j] - top)
            out[there + j] = e
            total += e
        for j in range(there, there + classes):
            out[j] *= share / total
        if label < 0 or label >= classes:
            sums[0] = np.nan
            continue
        out[there + label] -= share
        sums[0] += math.log(total) + (top - logits[row + label])
        if logits[row + label] == top:
            sums[1] += _is_first(logits, row, row + label)


@compiled
def _is_first(numbers, start, place):
    """Whether none from `start` on before `place` is equal to the one there."""
    for j in range(start, place):
        if numbers[j] == numbers[place]:
            return 0
    return 1
