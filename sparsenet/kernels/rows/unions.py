"""Rows of two sets of sites on their union, side by side, added, subtracted or multiplied; and the way back.

    sites of the union   0   1   2   3   4         coordinates (M, 1+D)
    x (2, C)             a       b                 x_rows  0 2         None: x has all sites
    y (4, E)             p   q       r   s         y_rows  0 1 3 4
    out (M, C + E)       ap  uq  bv  ur  us        u, v : the backgrounds of x and y, of the site's sample

The rows of a side ascend, so a block of the union's rows finds its first one of each side by binary search and then
walks along them.  Limited by memory: everything is read once and written once.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from sparsenet.kernels.cpu.lanes import load, load_either, store
from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.search import lower_bound
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.rows.contract import ADD_ROWS, CONCATENATE_ROWS, MULTIPLY_ROWS, SPLIT_ROWS, SUBTRACT_ROWS

_BLOCK = 1 << 18  # elements
_WIDTH = 16  # channels side by side
ADD, SUBTRACT, MULTIPLY = range(3)  # the order of unions.cu
_NO_ROWS = np.zeros(0, np.int64)
_NO_COORDINATES = np.zeros((0, 1), np.int32)


class Side(NamedTuple):
    """values : (N, C);  rows : (N,), not read if `whole`: it has all sites;  background : (1, C) or (B, C)"""

    values: np.ndarray
    rows: np.ndarray
    whole: bool
    background: np.ndarray


@CONCATENATE_ROWS.implementation("cpu")
def _concatenate_cpu(x, y, x_rows, y_rows, x_background, y_background, coordinates):
    """(M, C + E)"""
    width = x.shape[1] + y.shape[1]
    return _run(_concatenate, width, _side(x, x_rows, x_background), _side(y, y_rows, y_background), coordinates)


def _elementwise_cpu(operation):
    """(M, C)"""
    def run(x, y, x_rows, y_rows, x_background, y_background, coordinates):
        sides = _side(x, x_rows, x_background), _side(y, y_rows, y_background)
        return _run(_combine, x.shape[1], *sides, coordinates, operation)

    return run


ADD_ROWS.implementation("cpu")(_elementwise_cpu(ADD))
SUBTRACT_ROWS.implementation("cpu")(_elementwise_cpu(SUBTRACT))
MULTIPLY_ROWS.implementation("cpu")(_elementwise_cpu(MULTIPLY))


@SPLIT_ROWS.implementation("cpu")
def _split_cpu(values, x_rows, y_rows, channels):
    """(X, channels) and (Y, the others)"""
    count, width = values.shape
    x, y = (np.empty((count if rows is None else len(rows), size), values.dtype)
            for rows, size in ((x_rows, channels), (y_rows, width - channels)))
    sides = *_rows(x_rows), *_rows(y_rows)
    run_rows(lambda start, stop: _split(values, *sides, start, stop, x, y), count, _height(width))
    return x, y


def _rows(rows):
    """rows and whole of a Side"""
    return (_NO_ROWS, True) if rows is None else (rows, False)


def _side(values, rows, background):
    if background is None:
        background = np.zeros((1, values.shape[1]), values.dtype)
    return Side(values, *_rows(rows), background)


def _run(function, width, x, y, coordinates, *operation):
    count = len(x.values if x.whole else y.values) if coordinates is None else len(coordinates)
    coordinates = _NO_COORDINATES if coordinates is None else coordinates
    out = np.empty((count, width), x.values.dtype)
    run_rows(lambda start, stop: function(x, y, coordinates, *operation, start, stop, out), count, _height(width))
    return out


def _height(width):
    """Rows of a block."""
    return max(1, _BLOCK // max(1, width))


@compiled
def _concatenate(x, y, coordinates, start, stop, out):
    # Taken out of the tuples once: each look into one counts a reference.
    values, rows, whole, background = x
    others, other_rows, other_whole, other_background = y
    at, other = _first(rows, whole, start), _first(other_rows, other_whole, start)
    for row in range(start, stop):
        has = whole or (at < rows.size and rows[at] == row)
        sample = coordinates[row, 0] if not has and background.shape[0] > 1 else 0
        _put(has, values, at, background, sample, out, row, 0)
        at += has
        has = other_whole or (other < other_rows.size and other_rows[other] == row)
        sample = coordinates[row, 0] if not has and other_background.shape[0] > 1 else 0
        _put(has, others, other, other_background, sample, out, row, values.shape[1])
        other += has


@compiled
def _first(rows, whole, start):
    """The first row of a side that stands at row `start` of the union or behind it."""
    return start if whole else lower_bound(rows, 0, rows.size, start)


@compiled
def _put(has, values, at, background, sample, out, row, first):
    """out[row, first:first + C] = values[at], or background[sample]"""
    c = 0
    while c + _WIDTH <= values.shape[1]:
        store(out, (row, first + c), load_either(has, values, (at, c), background, (sample, c), _WIDTH))
        c += _WIDTH
    while c < values.shape[1]:
        out[row, first + c] = values[at, c] if has else background[sample, c]
        c += 1


@numba.njit(nogil=True)
def _result(operation, a, b):
    if operation == ADD:
        return a + b
    return a - b if operation == SUBTRACT else a * b


@compiled
def _combine(x, y, coordinates, operation, start, stop, out):
    values, rows, whole, background = x
    others, other_rows, other_whole, other_background = y
    at, other = _first(rows, whole, start), _first(other_rows, other_whole, start)
    for row in range(start, stop):
        has = whole or (at < rows.size and rows[at] == row)
        other_has = other_whole or (other < other_rows.size and other_rows[other] == row)
        sample = coordinates[row, 0] if not has and background.shape[0] > 1 else 0
        other_sample = coordinates[row, 0] if not other_has and other_background.shape[0] > 1 else 0
        c = 0
        while c + _WIDTH <= out.shape[1]:
            a = load_either(has, values, (at, c), background, (sample, c), _WIDTH)
            b = load_either(other_has, others, (other, c), other_background, (other_sample, c), _WIDTH)
            store(out, (row, c), _result(operation, a, b))
            c += _WIDTH
        while c < out.shape[1]:
            one = values[at, c] if has else background[sample, c]
            two = others[other, c] if other_has else other_background[other_sample, c]
            out[row, c] = _result(operation, one, two)
            c += 1
        at += has
        other += other_has


@compiled
def _split(values, rows, whole, other_rows, other_whole, start, stop, out, other_out):
    at, other = _first(rows, whole, start), _first(other_rows, other_whole, start)
    for row in range(start, stop):
        if whole or (at < rows.size and rows[at] == row):
            _take(values, row, 0, out, at)
            at += 1
        if other_whole or (other < other_rows.size and other_rows[other] == row):
            _take(values, row, out.shape[1], other_out, other)
            other += 1


@compiled
def _take(values, row, first, out, at):
    """out[at] = values[row, first:first + C]"""
    c = 0
    while c + _WIDTH <= out.shape[1]:
        store(out, (at, c), load(values, (row, first + c), _WIDTH))
        c += _WIDTH
    while c < out.shape[1]:
        out[at, c] = values[row, first + c]
        c += 1
