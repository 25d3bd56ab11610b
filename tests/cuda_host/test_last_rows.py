"""Row-wise kernels on the last rows of arrays of more than 2^31 elements, whose other rows do not exist."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet.kernels.activations import cuda as activations
from sparsenet.kernels.cuda.segment_sums import BLOCK, CHUNK, slots_of
from sparsenet.kernels.cuda.source import THREADS, use_driver
from sparsenet.kernels.pooling import cuda as pooling
from sparsenet.kernels.rows import cuda as segment
from sparsenet.teach.cuda_host.host_driver import LastRows

CHANNELS, OFFSETS, ROWS, INPUTS = 16, 27, 70, 50
FAR = 2**28  # rows before: numbers that times CHANNELS or OFFSETS are beyond 2^31
TILE = pooling._tile(CHANNELS)
SCALARS = {"SCALAR": "float", "WIDE": "float"}
each_distance = pytest.mark.parametrize("before", [0, FAR])


@pytest.fixture
def run(host_driver):
    """run(kernel, blocks, block, first block to run, *arguments)."""

    def run(kernel, blocks, block, first: int, *arguments) -> None:
        with use_driver(host_driver), host_driver.last_blocks(first):
            kernel(blocks, block, *arguments)

    return run


def at(rows: np.ndarray, before: int) -> LastRows:
    return LastRows.of(np.ascontiguousarray(rows), before)


def numbered(table: np.ndarray, before: int) -> LastRows:
    """A table of row numbers, whose rows have that many before them."""
    return at(np.where(table >= 0, table + before, -1).astype(np.int32), before)


def windows(rng, rows: int, inputs: int) -> np.ndarray:
    return np.where(rng.random((rows, OFFSETS)) < 0.4, rng.integers(0, inputs, (rows, OFFSETS)), -1)


@each_distance
def test_max_pool_forward(run, rng, before):
    features, table = rng.standard_normal((INPUTS, CHANNELS)).astype("f4"), windows(rng, ROWS, INPUTS)
    background = rng.standard_normal((2, CHANNELS)).astype("f4")
    coordinates = np.stack([np.arange(ROWS) % 2, np.arange(ROWS)], axis=1).astype(np.int32)
    out, argmax = np.zeros((ROWS, CHANNELS), "f4"), np.zeros((ROWS, CHANNELS), np.int16)
    run(pooling.SOURCE.kernel("max_pool_forward", **SCALARS), -(-(before + ROWS) // TILE), THREADS, before // TILE,
        at(features, before), background, 2, numbered(table, before), at(coordinates, before), 2, before + ROWS,
        OFFSETS, CHANNELS, TILE, False, at(out, before), at(argmax, before))
    gathered = np.where(table[..., None] < 0, background[coordinates[:, :1]], features[table])
    np.testing.assert_array_equal(out, gathered.max(axis=1))
    np.testing.assert_array_equal(argmax, gathered.argmax(axis=1))


@each_distance
def test_max_pool_backward(run, rng, before):
    gradient = rng.integers(-5, 5, (ROWS, CHANNELS)).astype("f4")
    argmax = rng.integers(0, OFFSETS, (ROWS, CHANNELS)).astype(np.int16)
    table, result = windows(rng, INPUTS, ROWS), np.zeros((INPUTS, CHANNELS), "f4")
    run(pooling.SOURCE.kernel("max_pool_backward", **SCALARS), -(-(before + INPUTS) // TILE), THREADS,
        before // TILE, at(gradient, before), at(argmax, before), numbered(table, before), before + INPUTS, OFFSETS,
        CHANNELS, TILE, at(result, before))
    chosen = (table >= 0)[..., None] & (argmax[table] == np.arange(OFFSETS)[:, None])
    np.testing.assert_array_equal(result, np.where(chosen, gradient[table], 0).sum(axis=1))


@each_distance
@pytest.mark.parametrize("by_sample", [False, True])
def test_max_pool_background(run, rng, before, by_sample):
    gradient = rng.integers(-5, 5, (ROWS, CHANNELS)).astype("f4")
    argmax, table = rng.integers(0, OFFSETS, (ROWS, CHANNELS)).astype(np.int16), windows(rng, ROWS, INPUTS)
    length, splits = pooling._RUN, before + np.array([-before, 0, 30, ROWS])  # the first sample has what is not there
    runs = -(-(before + ROWS) // length)
    partial = np.zeros((ROWS // length + 3, CHANNELS), "f4")
    run(pooling.SOURCE.kernel("max_pool_background", **SCALARS), -(-runs * CHANNELS // THREADS), THREADS,
        before // length * CHANNELS // THREADS, at(gradient, before), at(argmax, before), numbered(table, before),
        splits if by_sample else None, 3 if by_sample else 1, before + ROWS, OFFSETS, CHANNELS, length,
        at(partial, before // length))
    won_by_background = np.where(np.take_along_axis(table, argmax.astype(int), axis=1) < 0, gradient, 0)
    expected = np.zeros_like(partial)
    for m, row in enumerate(won_by_background):
        expected[m // length + ((1 if m < 30 else 2) if by_sample else 0)] += row
    np.testing.assert_array_equal(partial, expected)


def cells(rng, rows: int, inputs: int) -> np.ndarray:
    """Windows of which some cells lie outside the grid."""
    found = windows(rng, rows, inputs)
    return np.where(found < 0, rng.choice([-1, -2], found.shape), found)


def numbered_cells(table: np.ndarray, before: int) -> LastRows:
    return at(np.where(table >= 0, table + before, table).astype(np.int32), before)


@each_distance
def test_sum_pool_forward(run, rng, before):
    features, table = rng.integers(-5, 5, (INPUTS, CHANNELS)).astype("f4"), cells(rng, ROWS, INPUTS)
    background = rng.integers(-5, 5, (2, CHANNELS)).astype("f4")
    coordinates = np.stack([np.arange(ROWS) % 2, np.arange(ROWS)], axis=1).astype(np.int32)
    out = np.zeros((ROWS, CHANNELS), "f4")
    run(pooling.SUM_SOURCE.kernel("sum_pool_forward", **SCALARS), -(-(before + ROWS) // TILE), THREADS, before // TILE,
        at(features, before), background, 2, numbered_cells(table, before), at(coordinates, before), 2, before + ROWS,
        OFFSETS, CHANNELS, TILE, False, at(out, before))
    gathered = np.where(table[..., None] == -1, background[coordinates[:, None, 0]], features[table])
    np.testing.assert_array_equal(out, np.where(table[..., None] == -2, 0, gathered).sum(axis=1))


@each_distance
def test_sum_pool_shares(run, rng, before):
    table, shares, of_background = cells(rng, ROWS, INPUTS), np.zeros(ROWS, "f4"), np.zeros(ROWS, "f4")
    run(pooling.SUM_SOURCE.kernel("sum_pool_shares", **SCALARS), -(-(before + ROWS) // THREADS), THREADS,
        before // THREADS, numbered_cells(table, before), before + ROWS, OFFSETS, True, True, at(shares, before),
        at(of_background, before))
    counts = (table > -2).sum(axis=1)
    np.testing.assert_allclose(shares, 1 / counts, rtol=1e-6)
    np.testing.assert_allclose(of_background, (table == -1).sum(axis=1) / counts, rtol=1e-6)


@each_distance
def test_sum_pool_backward(run, rng, before):
    gradient, shares = rng.integers(-5, 5, (ROWS, CHANNELS)).astype("f4"), rng.integers(1, 4, ROWS).astype("f4")
    table, result = windows(rng, INPUTS, ROWS), np.zeros((INPUTS, CHANNELS), "f4")
    run(pooling.SUM_SOURCE.kernel("sum_pool_backward", **SCALARS), -(-(before + INPUTS) // TILE), THREADS,
        before // TILE, at(gradient, before), at(shares, before), numbered(table, before), before + INPUTS, OFFSETS,
        CHANNELS, TILE, at(result, before))
    scaled = gradient * shares[:, None]
    np.testing.assert_array_equal(result, np.where(table[..., None] >= 0, scaled[table], 0).sum(axis=1))


@each_distance
def test_sum_pool_background(run, rng, before):
    gradient, shares = rng.integers(-5, 5, (ROWS, CHANNELS)).astype("f4"), rng.integers(0, 4, ROWS).astype("f4")
    length, splits = pooling._RUN, before + np.array([-before, 0, 30, ROWS])  # the first sample has what is not there
    runs = -(-(before + ROWS) // length)
    partial = np.zeros((ROWS // length + 3, CHANNELS), "f4")
    run(pooling.SUM_SOURCE.kernel("sum_pool_background", **SCALARS), -(-runs * CHANNELS // THREADS), THREADS,
        before // length * CHANNELS // THREADS, at(gradient, before), at(shares, before), splits, 3, before + ROWS,
        CHANNELS, length, at(partial, before // length))
    expected = np.zeros_like(partial)
    for m, row in enumerate(gradient * shares[:, None]):
        expected[m // length + (1 if m < 30 else 2)] += row
    np.testing.assert_array_equal(partial, expected)


SPLITS = np.array([0, CHUNK // 2, CHUNK // 2, 3 * CHUNK + 5])  # of the rows that are there


each_distance_in_chunks = pytest.mark.parametrize("before", [0, 2**31 // CHANNELS * CHUNK])  # partial rows beyond, too


def segments(before: int) -> np.ndarray:
    """Splits whose first segment has the rows that are not there."""
    return np.concatenate([[0], before + SPLITS])


@each_distance_in_chunks
def test_segment_sum(run, rng, before):
    values = rng.integers(-5, 5, (SPLITS[-1], CHANNELS)).astype("f4")
    slots, far = slots_of(before + len(values), 4), before // CHUNK
    partial = np.zeros((slots - far, CHANNELS))
    out, arrived = np.zeros((4, CHANNELS), "f4"), np.zeros((4, 1), np.uint32)
    run(segment._kernel("segment_sum", values), (slots, 1), BLOCK, far + 1, at(values, before),
        segments(before), before + len(values), 4, CHANNELS, slots, at(partial, far), arrived, out)
    np.testing.assert_array_equal(out[1:], [values[a:b].sum(axis=0) for a, b in zip(SPLITS, SPLITS[1:], strict=False)])


@each_distance_in_chunks
def test_segment_max_chunks(run, rng, before):
    values = rng.standard_normal((SPLITS[-1], CHANNELS)).astype("f4")
    slots, far = slots_of(before + len(values), 4), before // CHUNK
    partial, rows = np.zeros((slots - far, CHANNELS), "f4"), np.zeros((slots - far, CHANNELS), np.int64)
    run(segment._kernel("segment_max_chunks", values), (slots, 1), BLOCK, far + 1, at(values, before),
        segments(before), before + len(values), 4, CHANNELS, slots, at(partial, far), at(rows, far))
    first = values[:CHUNK // 2]
    np.testing.assert_array_equal(partial[1], first.max(axis=0))
    np.testing.assert_array_equal(rows[1], before + first.argmax(axis=0))
    last = SPLITS[2] + np.arange(2) * CHUNK  # the chunks of the last segment, after the slot of the empty one
    for slot, begin in enumerate(last, start=SPLITS[2] // CHUNK + 3):
        np.testing.assert_array_equal(rows[slot], before + begin + values[begin:begin + CHUNK].argmax(axis=0))


@each_distance_in_chunks
def test_prelu_backward(run, rng, before):
    x, gradient = rng.integers(-5, 5, (2, 2 * CHUNK + 5, CHANNELS)).astype("f4")
    assert CHUNK == activations.CUDA_CHUNK
    slope, far, chunks = rng.integers(-3, 3, CHANNELS).astype("f4"), before // CHUNK, before // CHUNK + 3
    out, partial = np.zeros_like(x), np.zeros((3, CHANNELS))
    run(activations.PRELU.kernel("prelu_backward", **SCALARS, CHUNK=CHUNK), (chunks, 1), activations._GROUPS, far,
        at(x, before), at(gradient, before), (before + len(x)) * CHANNELS, None, None, 0, slope, CHANNELS, CHANNELS,
        at(out, before), None, np.zeros(CHANNELS, "f4"), chunks, chunks, at(partial, far), np.zeros(1, np.uint32))
    np.testing.assert_array_equal(out, np.where(x > 0, gradient, slope * gradient))
    sums = np.where(x > 0, 0, x * gradient)
    np.testing.assert_array_equal(partial, [sums[start:start + CHUNK].sum(axis=0) for start in (0, CHUNK, 2 * CHUNK)])


@each_distance
def test_softmax(run, rng, before):
    x, gradient = rng.standard_normal((2, ROWS, CHANNELS)).astype("f4")
    y, back, rows = np.zeros_like(x), np.zeros_like(x), THREADS // CHANNELS  # of a block
    blocks, first = -(-(before + ROWS) // rows), before // rows
    settings = CHANNELS, CHANNELS, before + ROWS
    run(activations.SOFTMAX.kernel("softmax_forward", **SCALARS), blocks, THREADS, first, at(x, before), *settings,
        at(y, before), None, 0, None)
    np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), rtol=1e-6)
    run(activations.SOFTMAX.kernel("softmax_backward", **SCALARS), blocks, THREADS, first, at(y, before),
        at(gradient, before), *settings, at(back, before), None, None, 0, None)
    np.testing.assert_allclose(back, y * (gradient - (y * gradient).sum(axis=1, keepdims=True)), rtol=1e-4, atol=1e-6)


WIDE, MANY = 2**16, 2**15 + 3  # channels, segments: 2^31 elements and some, of which the last 32 channels are made


def last_channels(splits: np.ndarray, blocks: int, wanted: int) -> tuple[tuple[int, int], int]:
    """The grid, and the first of the last `wanted` blocks of the last 32 channels."""
    return (blocks, WIDE // 32), blocks * (WIDE // 32) - wanted


def test_sums_of_many_wide_segments(run, rng):
    values = rng.integers(-5, 5, (6, WIDE)).astype("f4")
    splits = np.zeros(MANY + 1, np.int64)
    splits[-3:] = 2, 4, 6
    out = np.zeros((3, WIDE), "f4")
    slots = slots_of(6, MANY)
    grid, first = last_channels(splits, slots, 3)
    run(segment._kernel("segment_sum", values), grid, BLOCK, first, values, splits, 6, MANY, WIDE, slots, None,
        None, at(out, MANY - 3))
    np.testing.assert_array_equal(out[:, -32:], values.reshape(3, 2, WIDE).sum(axis=1)[:, -32:])


def test_maxima_of_many_wide_segments(run, rng):
    """Joined from partial rows that lie as far: one for each segment."""
    splits = np.zeros(MANY + 1, np.int64)
    splits[-3:] = 2, 4, 6
    partial, rows = rng.standard_normal((3, WIDE)).astype("f4"), rng.integers(0, 6, (3, WIDE))
    out, out_rows = np.zeros((3, WIDE), "f4"), np.zeros((3, WIDE), np.int64)
    grid, first = last_channels(splits, MANY, 3)
    run(segment._kernel("segment_max_join", partial), grid, BLOCK, first, at(partial, MANY - 3),
        at(rows, MANY - 3), splits, 6, MANY, WIDE, -np.inf, at(out, MANY - 3), at(out_rows, MANY - 3))
    np.testing.assert_array_equal(out[:, -32:], partial[:, -32:])
    np.testing.assert_array_equal(out_rows[:, -32:], rows[:, -32:])


def test_partial_maxima_of_many_wide_segments(run, rng):
    values = rng.standard_normal((6, WIDE)).astype("f4")
    splits = np.zeros(MANY + 1, np.int64)
    splits[-3:] = 2, 4, 6
    partial, rows = np.zeros((3, WIDE), "f4"), np.zeros((3, WIDE), np.int64)
    slots = slots_of(6, MANY)
    grid, first = last_channels(splits, slots, 3)
    run(segment._kernel("segment_max_chunks", values), grid, BLOCK, first, values, splits, 6, MANY, WIDE,
        slots, at(partial, slots - 3), at(rows, slots - 3))
    np.testing.assert_array_equal(partial[:, -32:], values.reshape(3, 2, WIDE).max(axis=1)[:, -32:])
    np.testing.assert_array_equal(rows[:, -32:], (values.reshape(3, 2, WIDE).argmax(axis=1)
                                                  + np.array([[0], [2], [4]]))[:, -32:])
