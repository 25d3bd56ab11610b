"""Segment reductions: one row out of each run of rows."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage, in_half

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.rows.cpu import CHUNK
from sparsenet.kernels.rows.cuda import CHUNK as CUDA_CHUNK

SPLITS = {
    "several": [0, 3, 5, 20],
    "empty ones": [0, 0, 7, 7, 20, 20],
    "one row each": list(range(21)),
    "one": [0, 20],
}


@each_storage
@pytest.mark.parametrize("splits", SPLITS.values(), ids=SPLITS.keys())
@pytest.mark.parametrize("channels", [1, 3, 32])
class TestSegments:
    def test_sum(self, launch, splits, channels, dtype, rng):
        values = rng.standard_normal((20, channels)).astype(dtype)
        result = launch("segment_sum", values, np.array(splits, np.int64))
        assert result.dtype == dtype
        expected = [values[a:b].sum(axis=0, dtype=np.float64) for a, b in zip(splits, splits[1:], strict=False)]
        reference.assert_close(result, np.array(expected))

    def test_max(self, launch, splits, channels, dtype, rng):
        values = rng.standard_normal((20, channels)).astype(dtype)
        result, rows = launch("segment_max", values, np.array(splits, np.int64))
        for s, (start, stop) in enumerate(zip(splits, splits[1:], strict=False)):
            if start == stop:
                assert (result[s] == -np.inf).all() and (rows[s] == -1).all()
            else:
                np.testing.assert_array_equal(result[s], values[start:stop].max(axis=0))
                np.testing.assert_array_equal(rows[s], start + values[start:stop].argmax(axis=0))


@pytest.mark.parametrize("rows", [CUDA_CHUNK - 1, CUDA_CHUNK + 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_segments_longer_than_a_chunk(launch, rows, rng):
    values, splits = rng.standard_normal((rows + 2, 3)), np.array([0, 2, rows + 2])
    reference.assert_close(launch("segment_sum", values, splits)[1], values[2:].sum(axis=0))
    largest, where = launch("segment_max", values, splits)
    np.testing.assert_array_equal(largest[1], values[2:].max(axis=0))
    np.testing.assert_array_equal(where[1], 2 + values[2:].argmax(axis=0))


def test_of_equal_rows_the_first_is_named_across_chunks_too(launch):
    _, rows = launch("segment_max", np.zeros((2 * CHUNK + 3, 2)), np.array([0, 3, 2 * CHUNK + 3]))
    assert rows.tolist() == [[0, 0], [3, 3]]


def test_a_long_float32_sum_keeps_its_digits(launch):
    values = np.full((100_000, 1), 0.1, np.float32)
    total = launch("segment_sum", values, np.array([0, len(values)]))
    assert total[0, 0] == np.float32(len(values) * np.float64(np.float32(0.1)))


@in_half
def test_a_long_float16_sum_is_rounded_once(launch, dtype):
    """Added up in float16, ones would stop at 2048."""
    values = np.ones((5000, 2), dtype)
    assert launch("segment_sum", values, np.array([0, 5000])).tolist() == [[5000, 5000]]


def test_many_segments_of_random_length_around_a_chunk(launch, rng):
    lengths = rng.choice([0, 1, CUDA_CHUNK - 1, CUDA_CHUNK, CUDA_CHUNK + 1, 7], 25)
    splits = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.integers(-9, 9, (splits[-1], 2)).astype(np.float32)  # sums are exact, ties are many
    total, (largest, where) = launch("segment_sum", values, splits), launch("segment_max", values, splits)
    for s, (start, stop) in enumerate(zip(splits, splits[1:], strict=False)):
        np.testing.assert_array_equal(total[s], values[start:stop].sum(axis=0))
        if stop > start:
            np.testing.assert_array_equal(largest[s], values[start:stop].max(axis=0))
            np.testing.assert_array_equal(where[s], start + values[start:stop].argmax(axis=0))


@pytest.mark.parametrize("row", [0, 5, CUDA_CHUNK + 3, 2 * CHUNK - 1])
def test_not_a_number_is_the_largest(launch, row, rng):
    values = rng.standard_normal((2 * CHUNK, 1))
    values[[row, -1]] = np.nan
    largest, where = launch("segment_max", values, np.array([0, 2 * CHUNK]))
    assert np.isnan(largest).all() and where.tolist() == [[row]]


@each_storage
@pytest.mark.parametrize("rows", [0, 1, 20, CUDA_CHUNK - 1, CUDA_CHUNK, 3 * CUDA_CHUNK + 5])
@pytest.mark.parametrize("channels", [1, 40])
def test_without_splits_all_rows_are_one_segment(launch, rows, channels, dtype, rng):
    values = rng.integers(-3, 4, (rows, channels)).astype(dtype)  # sums are exact
    result = launch("segment_sum", values, None)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, values.sum(axis=0, dtype=np.float64, keepdims=True))


def test_no_rows_and_no_segments(launch):
    assert launch("segment_sum", np.zeros((0, 3)), np.array([0, 0, 0])).tolist() == [[0, 0, 0]] * 2
    assert launch("segment_sum", np.zeros((0, 3)), np.array([0])).shape == (0, 3)
    assert launch("segment_max", np.zeros((0, 3)), np.array([0]))[1].shape == (0, 3)


def test_the_same_bits_for_any_number_of_threads(rng):
    values, splits = rng.standard_normal((5 * CHUNK, 4)).astype("f4"), np.array([0, 100, 4 * CHUNK, 5 * CHUNK])
    before, results = get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            results.append(kernels.launch("segment_sum", values, splits).tobytes())
    finally:
        set_num_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("splits", [[], [0, 3], [1, 4], [0, 3, 2, 4], [0, 9, 4]])
def test_splits_that_do_not_rise_from_0_to_the_rows_are_refused(splits):
    with pytest.raises(ValueError, match="segment_sum: splits is .*, expected numbers that rise from 0 to 4"):
        kernels.launch("segment_sum", np.zeros((4, 2)), np.array(splits, np.int64))


def test_values_that_are_not_contiguous_are_refused(rng):
    with pytest.raises(ValueError, match="segment_max: values is not C-contiguous"):
        kernels.launch("segment_max", rng.standard_normal((4, 6))[:, ::2], np.array([0, 4]))
