"""Lower bounds on the time of a convolution, counted by hand for a small table."""

from __future__ import annotations

import numpy as np

from benchmarks import floors
from sparsenet.kernels.cuda.tiles import Tile

TABLE = np.array([[0, -1, 2], [-1, -1, 1], [3, -1, -1], [-1, 4, -1], [5, -1, -1]], np.int32)
TILE = Tile("any", "fp16", 0, rows=128, columns=64, depth=16, own_rows=64, own_columns=32, stages=3, resident=1)


def test_a_tile_multiplies_what_any_of_its_rows_has():
    # Rows 0, 1: offsets 0 and 2; rows 2, 3: offsets 0 and 1; row 4: offset 0, in a tile that is not full.
    assert floors.multiplied_rows(TABLE, None, 2) == (2 + 2 + 1) * 2
    assert floors.multiplied_rows(TABLE, np.array([0, 2, 4, 1, 3]), 2) == (2 + 2 + 1) * 2
    assert floors.multiplied_rows(TABLE, np.array([2, 4, 0, 1, 3]), 2) == (1 + 2 + 1) * 2
    assert floors.multiplied_rows(TABLE, None, 1) == 6  # the pairs themselves
    assert floors.multiplied_rows(TABLE, None, 128) == 3 * 128


def test_bytes_of_one_tile_and_offset():
    assert floors.bytes_of_l2(128, TILE, 64, 64, 2) == (128 * 64 + 64 * 64) * 2
    assert floors.bytes_of_l2(128, TILE, 64, 128, 2) == 2 * (128 * 64 + 64 * 64) * 2  # rows once for each 64 columns
    # Written once; rows read by both warps beside each other, weights by both above each other.
    assert floors.bytes_of_shared(128, TILE, 64, 64, 2) == (3 * 128 * 64 + 3 * 64 * 64) * 2
