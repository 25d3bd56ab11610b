"""The output cells to which a box-shaped filter joins each input coordinate, axis by axis."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numba
import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.search import lower_bound
from sparsenet.kernels.rulebook.joined import joined_cells

AXES = 4  # grids of fewer axes get leading ones of one cell
_NO_CELL = 1 << 60  # beyond every grid that bit maps are made for; the sum of four still fits int64


class Axis(NamedTuple):
    """A filter along one axis: the numbers of input cells, output cells and offsets, and how the offsets lie."""

    size_in: int
    size_out: int
    kernel: int
    stride: int
    padding: int
    dilation: int


_SINGLE_CELL = Axis(1, 1, 1, 1, 0, 1)


class AxisWindows(NamedTuple):
    """For each input coordinate of each axis, the offsets that join it to an output cell.

    Coordinate c of axis a has the entry e = start[a] + c.  The i-th of its count[e] offsets adds offsets[e, i] to the
    number of the kernel offset and cells[e, i] to the number of the output cell.

    start : (4,);  count, lowest, mask : (E,);  offsets, cells : (E, k); all int64
    lowest : the lowest of an entry's cells, 2^60 if it has none
    mask : a bit for each of its cells, bit 0 for the lowest; 0 if they span more than 63 cells
    """

    start: np.ndarray
    count: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray
    lowest: np.ndarray
    mask: np.ndarray


class FilterWindows:
    """The windows of a filter over a grid.

    by_axis : the windows of the coordinates of each axis
    cells, offsets : the numbers of output cells and kernel offsets
    max_pairs : the largest number of pairs of an input site
    max_lines : the largest number of lines of output cells, along the last axis, to which an input site is joined
    """

    def __init__(self, spatial_size, output_size, kernel_size, stride, padding, dilation):
        axes = list(map(Axis, spatial_size, output_size, kernel_size, stride, padding, dilation))
        padded = [_SINGLE_CELL] * (AXES - len(axes)) + axes
        cell_strides = _strides([axis.size_out for axis in padded])
        offset_strides = _strides([axis.kernel for axis in padded])
        self.by_axis = AxisWindows(*_axis_windows(padded, cell_strides, offset_strides))
        self.cells, self.offsets = prod(output_size), prod(kernel_size)
        limits = np.maximum(np.maximum.reduceat(self.by_axis.count, self.by_axis.start), 1)  # per axis
        self.max_pairs, self.max_lines = int(limits.prod()), int(limits[:-1].prod())
        # The first two axes that have more than one cell divide the inputs into planes and lines: see `input_runs`.
        wide = [axis for axis in axes if axis.size_in > 1 or axis.size_out > 1][:2] or axes[-1:]
        self._plane_axis, self._line_axis = wide + [_SINGLE_CELL] * (2 - len(wide))
        self._cells_in = prod(spatial_size)

    def input_runs(self, keys, samples, low, high):
        """(T, X, 2) int64: for each of T ranges of output cells, runs of input rows [first, end) that contain all
        inputs that are joined to the range.

        keys : (N,) int64, sorted;  samples : (T,);  low, high : (T,), the cells low to high - 1 of the sample

        If the range spans several planes, it has one run; within a single plane, it has a run for each plane of inputs
        that an offset leads to, cut by the lines that can matter.
        """
        runs = np.zeros((len(samples), self._plane_axis.kernel, 2), np.int64)
        _find_runs(keys, samples, low, high, self._cells_in, self.cells, self._plane_axis, self._line_axis, runs)
        return runs


windows_of = lru_cache(maxsize=16)(FilterWindows)  # of a network's filters, some KB each: see `bits.fits`


def _strides(sides):
    """The step of each axis in a row-major array of these sides."""
    return [prod(sides[axis + 1:]) for axis in range(len(sides))]


def _axis_windows(axes, cell_strides, offset_strides):
    """The arrays of `AxisWindows`."""
    sizes = [axis.size_in for axis in axes]
    start = np.cumsum([0, *sizes[:-1]])
    count = np.zeros(sum(sizes), np.int64)
    offsets = np.zeros((len(count), max(axis.kernel for axis in axes)), np.int64)
    cells = np.zeros_like(offsets)
    for axis, first, cell_stride, offset_stride in zip(axes, start, cell_strides, offset_strides, strict=True):
        joined = joined_cells(np.arange(axis.size_in), *axis[1:])
        order = np.argsort(joined < 0, axis=0, kind="stable")  # first the offsets that join a cell, in their order
        entries = slice(first, first + axis.size_in)
        count[entries] = (joined >= 0).sum(axis=0)
        offsets[entries, :axis.kernel] = order.T * offset_stride
        cells[entries, :axis.kernel] = np.take_along_axis(joined, order, axis=0).T * cell_stride
    valid = np.arange(offsets.shape[1]) < count[:, None]
    lowest = np.where(valid, cells, _NO_CELL).min(axis=1)
    return start, count, offsets, cells, lowest, _masks(np.where(valid, cells - lowest[:, None], 0), valid)


def _masks(above_lowest, valid):
    bits = np.where(valid, np.int64(1) << np.minimum(above_lowest, 62), 0)
    return np.where(above_lowest.max(axis=1) < 63, np.bitwise_or.reduce(bits, axis=1), 0)


@compiled
def _find_runs(keys, samples, low, high, cells_in, cells_out, plane_axis, line_axis, runs):
    line_in = cells_in // (plane_axis.size_in * line_axis.size_in)  # cells of a line
    line_out = cells_out // (plane_axis.size_out * line_axis.size_out)
    plane_in, plane_out = line_in * line_axis.size_in, line_out * line_axis.size_out
    for t in range(samples.size):
        sample = samples[t] * cells_in
        first, last = low[t] // plane_out, (high[t] - 1) // plane_out
        if first != last:
            begin, end = _inputs_of(first, last, plane_axis)
            _set_run(keys, sample + begin * plane_in, sample + end * plane_in, runs[t, 0])
            continue
        first_line = low[t] // line_out % line_axis.size_out
        last_line = (high[t] - 1) // line_out % line_axis.size_out
        begin, end = _inputs_of(first_line, last_line, line_axis)
        for k in range(plane_axis.kernel):
            plane = first * plane_axis.stride - plane_axis.padding + k * plane_axis.dilation
            if 0 <= plane < plane_axis.size_in:
                start = sample + plane * plane_in
                _set_run(keys, start + begin * line_in, start + end * line_in, runs[t, k])


@numba.njit(nogil=True)
def _inputs_of(first, last, axis):
    """The input coordinates, from and to (exclusive), in the windows of the output coordinates `first` to `last`."""
    begin = first * axis.stride - axis.padding
    end = last * axis.stride - axis.padding + axis.dilation * (axis.kernel - 1) + 1
    return min(max(begin, 0), axis.size_in), min(max(end, 0), axis.size_in)


@numba.njit(nogil=True)
def _set_run(keys, low, high, run):
    """The rows of the keys from `low` to `high` - 1; (0, 0) if the range is empty."""
    if low < high:
        run[0], run[1] = lower_bound(keys, 0, keys.size, low), lower_bound(keys, 0, keys.size, high)
