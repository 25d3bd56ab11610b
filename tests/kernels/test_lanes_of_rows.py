"""Lanes that hold rows: where each number goes, sums in their stated order."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from sparsenet.kernels.cpu import lanes, lanes_of_rows

ROWS, WIDTH = 4, 8
TILE = ROWS * WIDTH
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@FLOATS
def test_rows_are_stacked_and_taken_out(rng, dtype):
    @numba.njit
    def rearrange(x, out):
        pair = lanes_of_rows.stacked(lanes.load(x, (0, 1), WIDTH), lanes.load(x, (1, 1), WIDTH))
        tile = lanes_of_rows.stacked(pair, lanes_of_rows.stacked(lanes.load(x, (2, 1), WIDTH),
                                                                 lanes.load(x, (3, 1), WIDTH)))
        lanes.store(out, (0, 0), tile)
        lanes.store(out, (1, 0), lanes_of_rows.row_of(tile, 2, ROWS))
        out[1, WIDTH] = lanes_of_rows.lane_of(tile, 19)

    x, out = rng.standard_normal((4, 10)).astype(dtype), np.zeros((2, TILE), dtype)
    rearrange(x, out)
    np.testing.assert_array_equal(out[0].reshape(ROWS, WIDTH), x[:, 1:9])
    np.testing.assert_array_equal(out[1, : WIDTH + 1], [*x[2, 1:9], x[2, 4]])


@FLOATS
def test_lanes_are_repeated_in_each_row_and_along_rows(rng, dtype):
    @numba.njit
    def repeat(x, out):
        lanes.store(out, (0, 0), lanes_of_rows.in_each_row(lanes.load(x, 0, WIDTH), ROWS))
        lanes.store(out, (1, 0), lanes_of_rows.along_rows(lanes.load(x, 0, ROWS), WIDTH))

    x, out = rng.standard_normal(9).astype(dtype), np.empty((2, TILE), dtype)
    repeat(x, out)
    np.testing.assert_array_equal(out, [np.tile(x[:WIDTH], ROWS), np.repeat(x[:ROWS], WIDTH)])


@FLOATS
def test_sums_over_rows_and_along_rows_have_their_order(rng, dtype):
    @numba.njit
    def add(x, of_rows, totals):
        tile = lanes.load(x, 0, TILE)
        lanes.store(of_rows, 0, lanes_of_rows.sum_of_rows(tile, ROWS))
        lanes.store(totals, 0, lanes_of_rows.totals_of_rows(tile, ROWS))

    x = rng.standard_normal(TILE).astype(dtype)
    of_rows, totals = np.empty(WIDTH, dtype), np.empty(ROWS, dtype)
    add(x, of_rows, totals)
    rows = x.reshape(ROWS, WIDTH)
    np.testing.assert_array_equal(of_rows, (rows[0] + rows[2]) + (rows[1] + rows[3]))
    halves = rows[:, :4] + rows[:, 4:]
    quarters = halves[:, :2] + halves[:, 2:]
    np.testing.assert_array_equal(totals, quarters[:, 0] + quarters[:, 1])


def test_a_number_of_rows_that_is_not_constant_is_refused():
    @numba.njit
    def add(x, rows):
        lanes.store(x, 0, lanes_of_rows.sum_of_rows(lanes.load(x, 0, TILE), rows))

    with pytest.raises(TypingError, match="lanes: rows is int64, expected a constant"):
        add(np.zeros(TILE), 4)
