"""Batch norm kernels: statistics, the normalised rows, and the gradients, against loops over all cells."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage, in_half, precise

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.norm.cuda import CUDA_CHUNK

EPS = 1e-5
BACKGROUND_ROWS = {"no background": 0, "one background": 1, "one for each sample": 3}
each_background = pytest.mark.parametrize("backgrounds", BACKGROUND_ROWS.values(), ids=BACKGROUND_ROWS.keys())


def inputs(rng, rows, channels, backgrounds, dtype):
    """features, background, splits of three samples, one of them empty."""
    features, background = (rng.standard_normal((n, channels)) + 3 for n in (rows, backgrounds))
    splits = np.array([0, rows // 3, rows // 3, rows], np.int64)
    return features.astype(dtype), background.astype(dtype) if backgrounds else None, splits


def all_cells(features, background, splits, cells):
    """The values of all cells that count (n, C), float64; without `cells` the sites'."""
    values = features.astype(np.float64)
    if background is None or not cells:
        return values
    inactive = cells - np.diff(splits)
    rows_of_samples = np.broadcast_to(background.astype(np.float64), (len(inactive), values.shape[1]))
    return np.concatenate([values, np.repeat(rows_of_samples, inactive, axis=0)])


@each_storage
@each_background
@pytest.mark.parametrize("cells", [0, 40])
@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (20, 5), (37, 48), (70, 33)])
def test_statistics_are_those_of_all_cells(launch, dtype, backgrounds, cells, rows, channels, rng):
    features, background, splits = inputs(rng, rows, channels, backgrounds, dtype)
    cells = max(cells, rows) if cells else 0
    values = all_cells(features, background, splits, cells)
    moments = launch("batch_norm_statistics", features, background, splits, cells, None, None, 0.0)
    assert moments.dtype == np.float64
    np.testing.assert_allclose(moments, [values.mean(axis=0), values.var(axis=0)], rtol=1e-12, atol=1e-12)


@each_storage
def test_running_statistics_move_as_in_pytorch(launch, dtype, rng):
    features, background, splits = inputs(rng, 20, 5, 1, dtype)
    values = all_cells(features, background, splits, 30)
    mean, variance = np.arange(5).astype(dtype), np.full(5, 2, dtype)
    launch("batch_norm_statistics", features, background, splits, 30, mean, variance, 0.1)
    assert mean.dtype == variance.dtype == dtype
    reference.assert_close(mean, 0.9 * np.arange(5) + 0.1 * values.mean(axis=0))
    reference.assert_close(variance, 0.9 * 2 + 0.1 * values.var(axis=0, ddof=1))


@each_storage
@each_background
@pytest.mark.parametrize(("rows", "channels"), [(0, 3), (1, 1), (20, 5), (37, 48), (3, 300)])
def test_forward(launch, dtype, backgrounds, rows, channels, rng):
    features, background, _ = inputs(rng, rows, channels, backgrounds, dtype)
    weight, bias = rng.standard_normal((2, channels)).astype(dtype)
    moments = np.stack([rng.standard_normal(channels), rng.random(channels)])
    found = launch("batch_norm_forward", features, background, moments, weight, bias, EPS)
    given_rows = (features, background) if backgrounds else (features,)
    for result, given in zip(found if backgrounds else (found,), given_rows, strict=True):
        values, weights, biases = precise(given, weight, bias)
        assert result.dtype == dtype
        reference.assert_close(result, (values - moments[0]) / np.sqrt(moments[1] + EPS) * weights + biases)


@each_storage
@each_background
@pytest.mark.parametrize("of_batch", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("cells", [0, 40])
@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (20, 5), (37, 48)])
def test_backward_is_that_of_all_cells(launch, dtype, backgrounds, of_batch, cells, rows, channels, rng):
    """The gradient of the sum over cells of out * their gradient, written out; a background stands for many cells."""
    features, background, splits = inputs(rng, rows, channels, backgrounds, dtype)
    cells = max(cells, rows) if cells and backgrounds else 0
    gradient, to_background = (rng.standard_normal(x.shape).astype(dtype) if x is not None else None
                        for x in (features, background))
    weight = rng.standard_normal(channels).astype(dtype)
    values = all_cells(features, background, splits, cells)
    moments = np.stack([values.mean(axis=0), values.var(axis=0)])
    back, under, sums = launch("batch_norm_backward", features, background, gradient, to_background, splits, cells,
                               moments, weight, EPS, of_batch)
    count, inverse = len(values), 1 / np.sqrt(moments[1] + EPS)
    x, b, g, h, w = precise(features, background, gradient, to_background, weight)
    slopes = g.sum(axis=0) + (h.sum(axis=0) if backgrounds else 0)
    products = (g * (x - moments[0])).sum(axis=0) + ((h * (b - moments[0])).sum(axis=0) if backgrounds else 0)
    of_mean, of_variance = -slopes * w * inverse, -products * w * inverse**3 / 2

    def through(value, times):
        if not of_batch:
            return 0
        return times * (of_mean / count + of_variance * 2 * (value - moments[0]) / count)

    assert back.dtype == dtype
    reference.assert_close(back, g * w * inverse + through(x, 1))
    np.testing.assert_allclose(sums, [slopes, products * inverse], rtol=1e-10, atol=1e-10)
    if not backgrounds:
        assert under is None
        return
    inactive = (cells - np.diff(splits) if cells else np.zeros(3))[:, None]
    reference.assert_close(under, h * w * inverse + through(b, inactive if backgrounds == 3 else inactive.sum()))


@pytest.mark.parametrize("rows", [CUDA_CHUNK - 1, CUDA_CHUNK, CUDA_CHUNK + 1, 10 * CUDA_CHUNK + 5])
@pytest.mark.parametrize("channels", [3, 40])
def test_more_rows_than_a_chunk(launch, rows, channels, rng):
    x, g = rng.standard_normal((2, rows, channels))
    moments = launch("batch_norm_statistics", x, None, None, 0, None, None, 0.0)
    np.testing.assert_allclose(moments, [x.mean(axis=0), x.var(axis=0)], rtol=1e-11, atol=1e-13)
    *_, sums = launch("batch_norm_backward", x, None, g, None, None, 0, moments, np.ones(channels), EPS, True)
    normalised = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPS)
    np.testing.assert_allclose(sums, [g.sum(axis=0), (g * normalised).sum(axis=0)], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("outlier", [0.0, 1e6], ids=["no outlier", "the first row far away"])
def test_a_variance_far_from_zero_keeps_its_digits(launch, outlier, rng):
    """Squares about zero would lose sixteen digits; about an outlier they lose three at most."""
    x = 1e8 + rng.standard_normal((3000, 2))
    x[0] += outlier
    centred = x - 1e8
    moments = launch("batch_norm_statistics", x, None, None, 0, None, None, 0.0)
    np.testing.assert_allclose(moments[1], centred.var(axis=0), rtol=1e-10)


@in_half
def test_sums_of_float16_are_not_of_float16(launch, dtype):
    x = np.ones((5000, 1), dtype)
    x[::2] = 3
    assert launch("batch_norm_statistics", x, None, None, 0, None, None, 0.0).tolist() == [[2.0], [1.0]]


def test_a_channel_that_is_constant_has_no_variance(launch):
    x = np.full((5000, 3), 0.1, np.float32)
    mean, variance = launch("batch_norm_statistics", x, np.full((1, 3), 0.1, np.float32), np.array([0, 5000]), 9000,
                            None, None, 0.0)
    np.testing.assert_allclose(mean, np.float64(np.float32(0.1)), rtol=1e-15)
    assert (variance >= 0).all() and (variance < 1e-30).all()


def test_of_no_values_at_all_they_are_not_numbers(launch):
    found = launch("batch_norm_statistics", np.zeros((0, 2)), None, None, 0, None, None, 0.0)
    assert np.isnan(found).all()


def test_not_a_number_stays_in_its_channel(launch, rng):
    x = rng.standard_normal((200, 20))
    x[150, 3] = np.nan
    found = launch("batch_norm_statistics", x, None, None, 0, None, None, 0.0)
    assert np.isnan(found[:, 3]).all() and np.isfinite(np.delete(found, 3, axis=1)).all()


def test_the_same_bits_for_any_number_of_threads(rng):
    x, g = rng.standard_normal((2, 30_000, 40)).astype(np.float32)
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            moments = kernels.launch("batch_norm_statistics", x, None, None, 0, None, None, 0.0)
            y = kernels.launch("batch_norm_forward", x, None, moments, x[0], x[1], EPS)
            back, _, sums = kernels.launch("batch_norm_backward", x, None, g, None, None, 0, moments, x[0], EPS, True)
            results.add(b"".join(one.tobytes() for one in (moments, y, back, sums)))
    finally:
        set_num_threads(before)
    assert len(results) == 1


def test_a_row_is_normalised_by_itself(rng):
    x = rng.standard_normal((5000, 37)).astype(np.float32)
    moments = np.stack([x[0], x[1] ** 2]).astype(np.float64)
    whole = kernels.launch("batch_norm_forward", x, None, moments, x[2], x[3], EPS)
    for rows in (slice(0, 1), slice(17, 18), slice(4000, 4100)):
        part = kernels.launch("batch_norm_forward", x[rows], None, moments, x[2], x[3], EPS)
        np.testing.assert_array_equal(part, whole[rows])


@pytest.mark.parametrize(("backgrounds", "splits", "message"), [
    (2, [0, 1, 2, 4], "background has 2 rows, expected 1, or one for each of the 3 samples"),
    (1, None, r"batch_splits is None, expected \(B\+1,\)"),
])
def test_a_background_that_is_not_one_or_one_each_is_refused(backgrounds, splits, message):
    splits = None if splits is None else np.array(splits)
    with pytest.raises(ValueError, match=f"batch_norm_statistics: {message}"):
        kernels.launch("batch_norm_statistics", np.zeros((4, 2)), np.zeros((backgrounds, 2)), splits, 9, None,
                       None, 0.0)
