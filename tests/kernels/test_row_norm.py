"""Kernels of layer norm: each row, or each group of its channels, against the loop over all of them."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host.storage import each_storage, precise

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.norm.cuda import CUDA_CHUNK

EPS = 1e-3


def check(launch, rng, rows, channels, groups, dtype):
    x, g = rng.standard_normal((2, rows, channels)).astype(dtype)
    x += 3
    weight, bias = rng.standard_normal((2, channels)).astype(dtype)
    wide_x, wide_g, wide_weight, wide_bias = precise(x, g, weight, bias)
    y, moments = launch("row_norm_forward", x, weight, bias, groups, EPS, True)
    alone, none = launch("row_norm_forward", x, weight, bias, groups, EPS, False)
    np.testing.assert_array_equal(alone, y)
    assert none is None
    back, sums = launch("row_norm_backward", x, g, moments, weight)
    assert y.dtype == back.dtype == dtype and sums.dtype == moments.dtype == np.float64
    grouped = wide_x.reshape(rows, groups, channels // groups)
    np.testing.assert_allclose(moments, [grouped.mean(axis=2).T, 1 / np.sqrt(grouped.var(axis=2).T + EPS)], rtol=1e-12)
    reference.assert_close(y, reference.group_norm(wide_x[:, :, None], groups, wide_weight, wide_bias, EPS)[:, :, 0])
    of_x, of_weight, of_bias = reference.group_norm_backward(wide_g[:, :, None], wide_x[:, :, None], groups,
                                                             wide_weight, EPS)
    reference.assert_close(back, of_x[:, :, 0], "gradient")
    np.testing.assert_allclose(sums, [of_bias, of_weight], rtol=1e-9, atol=1e-9)


@each_storage
@pytest.mark.parametrize(("rows", "channels", "groups"), [
    (0, 3, 1), (1, 1, 1), (20, 5, 1), (33, 48, 1), (7, 300, 1), (21, 12, 4), (9, 6, 6), (10, 99, 3), (18, 16, 2)])
def test_values_and_gradients(launch, dtype, rows, channels, groups, rng):
    check(launch, rng, rows, channels, groups, dtype)


@pytest.mark.parametrize("rows", [CUDA_CHUNK, CUDA_CHUNK + 1, 3 * CUDA_CHUNK + 5])
def test_more_rows_than_a_chunk(launch, rows, rng):
    check(launch, rng, rows, 4, 2, np.dtype(np.float64))


def test_a_variance_far_from_zero_keeps_its_digits(launch, rng):
    x = 1e8 + rng.standard_normal((20, 64))
    y, _ = launch("row_norm_forward", x, np.ones(64), np.zeros(64), 1, 0.0, False)
    x -= 1e8
    np.testing.assert_allclose(y, (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True), atol=1e-6)


def test_a_group_of_one_channel_is_the_bias_and_has_no_gradient(launch, rng):
    x, bias = rng.standard_normal((9, 4)), rng.standard_normal(4)
    y, moments = launch("row_norm_forward", x, bias, bias, 4, EPS, True)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (9, 4)))
    back, sums = launch("row_norm_backward", x, x, moments, bias)
    np.testing.assert_allclose(back, 0, atol=1e-13)
    np.testing.assert_allclose(sums, [x.sum(axis=0), np.zeros(4)], atol=1e-12)


def test_not_a_number_stays_in_its_row_and_group(launch, rng):
    x, one = rng.standard_normal((20, 8)), np.ones(8)
    x[3, 5] = np.nan
    y, moments = launch("row_norm_forward", x, one, one, 2, EPS, True)
    assert np.isnan(y[3, 4:]).all() and np.isnan(y).sum() == 4
    assert np.isnan(moments[:, 1, 3]).all() and np.isnan(moments).sum() == 2
    back, _ = launch("row_norm_backward", x, np.ones_like(x), moments, one)
    assert np.isnan(back[3, 4:]).all() and np.isnan(back).sum() == 4


@pytest.mark.parametrize("channels", [37, 40])
def test_a_row_is_normalised_by_itself(channels, rng):
    x, weight = rng.standard_normal((5000, channels)).astype(np.float32), np.ones(channels, np.float32)
    whole, moments = kernels.launch("row_norm_forward", x, weight, weight, 1, EPS, True)
    slopes, _ = kernels.launch("row_norm_backward", x, x[::-1].copy(), moments, weight)
    for rows in (slice(0, 1), slice(17, 18), slice(4000, 4100), slice(4001, 4999)):
        y, own = kernels.launch("row_norm_forward", x[rows], weight, weight, 1, EPS, True)
        np.testing.assert_array_equal(y, whole[rows])
        np.testing.assert_array_equal(own, moments[:, :, rows])
        back, _ = kernels.launch("row_norm_backward", x[rows], x[::-1][rows].copy(), own, weight)
        np.testing.assert_array_equal(back, slopes[rows])


def test_the_same_bits_for_any_number_of_threads(rng):
    x, g = rng.standard_normal((2, 30_000, 40)).astype(np.float32)
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            y, moments = kernels.launch("row_norm_forward", x, x[0], x[1], 2, EPS, True)
            found = y, moments, *kernels.launch("row_norm_backward", x, g, moments, x[0])
            results.add(b"".join(one.tobytes() for one in found))
    finally:
        set_num_threads(before)
    assert len(results) == 1


@pytest.mark.parametrize("groups", [0, 4])
def test_groups_that_do_not_divide_the_channels_are_refused(groups, rng):
    x, weight = rng.standard_normal((2, 6)), np.ones(6)
    with pytest.raises(ValueError, match=f"row_norm_forward: 6 channels in {groups} groups"):
        kernels.launch("row_norm_forward", x, weight, weight, groups, EPS, True)
    with pytest.raises(ValueError, match=rf"row_norm_backward: moments have shape \(2, {groups}, 2\)"):
        kernels.launch("row_norm_backward", x, x, np.ones((2, groups, 2)), weight)
