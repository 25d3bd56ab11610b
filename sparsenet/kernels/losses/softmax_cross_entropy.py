"""Softmax cross-entropy and its gradient: mean over the rows of -log(softmax(logits)[label]).

    e[j] = exp(logits[j] - max)      total = sum of e      loss of a row = log(total) + max - logits[label]
    gradient[j] = (e[j] / total - (j == label)) / B

The gradient needs the same exponentials as the loss, so one pass computes both; backward only scales the gradient.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from sparsenet.kernels.cpu.exponential_rows import ROW_WIDTH, exponentials, largest, prefetch_row, scale_row
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.losses.contract import SOFTMAX_CROSS_ENTROPY
from sparsenet.kernels.losses.mean import mean_on_host

_BLOCK = 1 << 18  # numbers: whole rows, at least one
_GROUP = 16  # rows: some kilobytes; the product of so many totals is below 2^496
_AHEAD = 32  # rows: how early they are prefetched
_MAX_UNROLLED = 128  # classes


@SOFTMAX_CROSS_ENTROPY.implementation("cpu")
def _cpu(logits, labels, with_gradient):
    """loss (), figures (2,) float64 and gradient (B, C), or None without with_gradient.

    figures : the loss again, and the number of rows whose label is the first of the largest logits, in one array for a
        single copy to the host
    A label that is not a class makes the loss NaN.  An empty batch has loss 0.
    """
    batch, classes = logits.shape
    step, share = max(1, _BLOCK // classes), 1 / max(1, batch)  # rows of a block
    sums = np.zeros((-(-batch // step), 2))
    gradient = np.empty(logits.shape, logits.dtype) if with_gradient else None
    add_up = _rows_double
    if logits.dtype == np.float32:
        add_up = _rows_float(classes if classes <= _MAX_UNROLLED else 0)

    def add_rows(start: int, stop: int) -> None:
        if with_gradient:
            out, stride = gradient[start:stop].reshape(-1), classes
        else:  # the loop in double precision writes each row over the one before
            out, stride = np.empty(classes, logits.dtype), 0
        add_up(logits[start:stop].reshape(-1), labels[start:stop], classes, share, out, stride, sums[start // step])

    run_rows(add_rows, batch, step)
    return *mean_on_host(sums, batch, logits.dtype), gradient


@cache
def _rows_float(known):
    """The loop over float32 rows, compiled for `known` classes; for any number of classes if that is 0.

    With a known number, the loops over the classes are unrolled and the masks of the end of a row are constants: 64 or
    4096 rows of 10, 40 or 55 classes take between a half and three quarters of the time of the generic loop.
    """

    def rows_float(logits, labels, given_classes, share, out, stride, sums):
        """Add the losses of the rows to sums[0] and the number of correct rows to sums[1]; the gradient of row i goes
        to out[i * stride], and there is none if stride is 0.

        _GROUP rows take each step together: in a single row each step would wait for the one before, and so the
        processor has independent work.  A group needs one logarithm, of the product of its totals, each of which lies
        between 1 and C < 2^31.
        """
        classes = known if known > 0 else given_classes
        padded = -(-classes // ROW_WIDTH) * ROW_WIDTH
        tops, totals, scales = np.empty((3, _GROUP), np.float32)
        terms = np.empty(min(_GROUP, labels.size) * padded, np.float32)  # exp(logits - max), each row padded with 0
        own_share, correct = np.float32(share), 0
        for first in range(0, labels.size, _GROUP):
            rows = min(_GROUP, labels.size - first)
            for i in range(rows):
                tops[i] = largest(logits, (first + i) * classes, classes)
            for i in range(rows):
                row = (first + i) * classes
                totals[i] = exponentials(logits, row, classes, tops[i], terms, i * padded)
                prefetch_row(logits, row + _AHEAD * classes, classes)
            product = 1.0
            for i in range(rows):
                product *= totals[i]
                if stride:
                    scales[i] = np.float32(share / totals[i])
                    scale_row(terms, i * padded, classes, scales[i], out, (first + i) * stride)
            loss = math.log(product)
            for i in range(rows):
                row, label = (first + i) * classes, np.uint64(labels[first + i])
                if label >= np.uint64(classes):  # a negative label is huge as uint64: one comparison catches both ends
                    loss = np.nan
                    continue
                given = logits[np.uint64(row) + label]  # unsigned: Numba adds no code for negative indices
                loss += np.float64(tops[i]) - np.float64(given)
                if stride:
                    term = terms[np.uint64(i * padded) + label]
                    out[np.uint64((first + i) * stride) + label] = term * scales[i] - own_share
                if given == tops[i]:
                    correct += _is_first(logits, row, row + labels[first + i])
            sums[0] += loss
        sums[1] += correct

    rows_float.__qualname__ += f"_{known}"  # a file of its own: Numba's cache does not see the value of `known`
    return compiled(rows_float, error_model="numpy")


@compiled(error_model="numpy")
def _rows_double(logits, labels, classes, share, out, stride, sums):
    """As `_rows_float`, one number at a time."""
    for i in range(labels.size):
        row, there, label = i * classes, i * stride, labels[i]
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
    """1 if no number from `start` to `place - 1` equals the one at `place`, else 0."""
    for j in range(start, place):
        if numbers[j] == numbers[place]:
            return 0
    return 1
