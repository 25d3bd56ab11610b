"""Kernels of average and sum pooling against a plain loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from convolution_cases import Table
from cuda_host.storage import each_storage, in_half, precise
from pooling_cases import OUTSIDE, case

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads, table
from sparsenet.sparse import ActiveSites, Geometry

BACKGROUNDS = pytest.mark.parametrize("kind", [None, "shared", "by sample"])
MEANS = pytest.mark.parametrize("mean", [False, True], ids=["sum", "mean"])


def some(rng, kind, channels, dtype):
    rows = {"shared": 1, "by sample": 3}.get(kind)
    return None if rows is None else rng.standard_normal((rows, channels)).astype(dtype)


def forward(features, background, windows, coordinates, mean):
    features, background = precise(features, background)
    out = np.zeros((len(windows), features.shape[1]))
    for m, row in enumerate(windows):
        cells = [features[n] for n in row if n >= 0]
        if background is not None:
            cells += [background[coordinates[m, 0] if len(background) > 1 else 0] for n in row if n == -1]
        out[m] = sum(cells) / (len(cells) if mean else 1) if cells else 0
    return out


def backward(gradient, windows, inputs, splits, mean, with_background):
    """By sample; the background gets the share of each inactive cell."""
    to_features = np.zeros((inputs, gradient.shape[1]))
    to_background = np.zeros((len(splits) - 1, gradient.shape[1]))
    for m, row in enumerate(windows):
        cells = sum(n >= 0 or (n == -1 and with_background) for n in row)
        share = gradient[m].astype(np.float64) / (max(cells, 1) if mean else 1)
        for n in row:
            if n >= 0:
                to_features[n] += share
            elif n == -1:
                to_background[np.searchsorted(splits, m, side="right") - 1] += share
    return to_features, to_background if with_background else None


@each_storage
@MEANS
@BACKGROUNDS
@pytest.mark.parametrize(("channels", "k"), [(1, 8), (32, 27), (47, 33), (64, 70)])
def test_forward(launch, dtype, kind, channels, k, mean, rng):
    features, windows, coordinates, _ = case(c=channels, k=k, dtype=dtype)
    background = some(rng, kind, channels, dtype)
    out = launch("sum_pool_forward", features, background, windows, coordinates, mean)
    assert out.dtype == dtype
    reference.assert_close(out, forward(features, background, windows, coordinates, mean))


@each_storage
@MEANS
@pytest.mark.parametrize("with_background", [False, True])
@pytest.mark.parametrize(("outputs", "channels", "k"), [((12, 0, 18), 5, 8), ((0, 64, 1), 32, 27), ((70, 130, 3), 1, 8),
                                                        ((130, 0, 0), 70, 40)])
def test_backward(launch, dtype, outputs, channels, k, mean, with_background, rng):
    features, windows, _, splits = case(outputs, k, channels, dtype)
    gradient = rng.standard_normal((len(windows), channels)).astype(dtype)
    rulebook = Table(windows, len(features))
    to_features, to_background = launch("sum_pool_backward", gradient, rulebook, splits, mean, with_background,
                                        with_background)
    expected, of_samples = backward(gradient, windows, len(features), splits, mean, with_background)
    reference.assert_close(to_features, expected)
    assert to_features.dtype == dtype and (to_background is None) == (not with_background)
    if with_background:
        assert to_background.dtype == dtype
        reference.assert_close(to_background, of_samples)
        _, at_once = launch("sum_pool_backward", gradient, rulebook, None, mean, True, True)
        reference.assert_close(at_once, of_samples.sum(axis=0, keepdims=True))


@MEANS
@pytest.mark.parametrize("channels", [5, 40])
def test_windows_without_a_site_or_without_a_cell(launch, channels, mean):
    windows = np.array([[-1, -1, OUTSIDE], [OUTSIDE] * 3, [0, -1, OUTSIDE]], np.int32)
    features, background = np.full((1, channels), 4.0), np.full((1, channels), 2.0)
    coordinates, gradient = np.zeros((3, 4), np.int32), np.ones((3, channels))
    out = launch("sum_pool_forward", features, background, windows, coordinates, mean)
    assert out[:, -1].tolist() == ([2, 0, 3] if mean else [4, 0, 6])
    out = launch("sum_pool_forward", features, None, windows, coordinates, mean)
    assert out[:, 0].tolist() == [0, 0, 4]
    found = launch("sum_pool_backward", gradient, Table(windows, 1), None, mean, True, True)
    assert found[0][0, 0] == (0.5 if mean else 1) and found[1][0, 0] == (1.5 if mean else 3)
    assert launch("sum_pool_backward", gradient, Table(windows, 1), None, mean, False, False)[0][0, 0] == 1


@pytest.mark.parametrize("channels", [3, 32])
def test_infinity_in_the_background_reaches_only_windows_with_an_inactive_cell(launch, channels):
    windows, features = np.array([[0, 1], [1, OUTSIDE], [0, -1]], np.int32), np.ones((2, channels), np.float32)
    background = np.full((1, channels), np.inf, np.float32)
    out = launch("sum_pool_forward", features, background, windows, np.zeros((3, 2), np.int32), True)
    assert out[:, 0].tolist() == [1, 1, np.inf]


@in_half
def test_float16_is_summed_in_float32(launch, dtype):
    """2048 + 1 + 1 ... which float16 would not count."""
    windows = np.arange(301, dtype=np.int32)[None]
    features = np.ones((301, 3), dtype)
    features[0] = 2048
    out = launch("sum_pool_forward", features, None, windows, np.zeros((1, 2), np.int32), False)
    reference.assert_close(out, np.full((1, 3), 2348.0))
    gradient = features.copy()
    inactive = Table(np.full((301, 1), -1, np.int32), 2)
    _, to_background = launch("sum_pool_backward", gradient, inactive, np.array([0, 301]), False, True, True)
    reference.assert_close(to_background, np.full((1, 3), 2348.0))


@pytest.mark.parametrize("samples", [1, 3])
def test_the_same_bits_for_any_number_of_threads(samples, rng):
    features, windows, coordinates, splits = case((2500,) * samples, 8, 70)
    features[...] = rng.standard_normal(features.shape)
    background = rng.standard_normal((samples, 70)).astype("f4")
    gradient, before, results = rng.standard_normal((len(windows), 70)).astype("f4"), get_num_threads(), set()
    try:
        for threads in (1, 2, 5):
            set_num_threads(threads)
            out = kernels.launch("sum_pool_forward", features, background, windows, coordinates, True)
            back = kernels.launch("sum_pool_backward", gradient, Table(windows, len(features)), splits, True, True,
                                  True)
            results.add(b"".join(array.tobytes() for array in (out, *back)))
    finally:
        set_num_threads(before)
    assert len(results) == 1


def test_inputs_stay_untouched(launch, rng):
    features, windows, coordinates, splits = case(c=32)
    gradient = rng.standard_normal((len(windows), 32)).astype("f4")
    background = np.ones((1, 32), "f4")
    given = [array.copy() for array in (features, windows, gradient, background)]
    for mean in (False, True):
        launch("sum_pool_forward", features, background, windows, coordinates, mean)
        to_features, _ = launch("sum_pool_backward", gradient, Table(windows, len(features)), splits, mean, True, True)
        to_features[...] = np.nan
    for array, before in zip((features, windows, gradient, background), given, strict=True):
        np.testing.assert_array_equal(array, before)


def test_empty(launch):
    coordinates, windows = np.zeros((0, 4), np.int32), np.zeros((0, 8), np.int32)
    assert launch("sum_pool_forward", np.zeros((0, 3)), None, windows, coordinates, True).shape == (0, 3)
    found = launch("sum_pool_backward", np.zeros((0, 3)), Table(windows, 4), np.zeros(3, np.int64), True, True, True)
    assert np.array_equal(found[0], np.zeros((4, 3))) and np.array_equal(found[1], np.zeros((2, 3)))


def test_a_gradient_of_a_background_that_does_not_count_is_refused(launch):
    with pytest.raises(ValueError, match="to_background is True, but with_background is False"):
        launch("sum_pool_backward", np.ones((1, 2)), Table(np.zeros((1, 8), np.int32), 1), None, True, False, True)


def test_a_row_that_is_not_there_is_told_when_checking(monkeypatch):
    monkeypatch.setattr(table, "checking", lambda: True)
    for name in ("sum_pool_forward", "max_pool_forward"):
        with pytest.raises(ValueError, match=f"{name}: windows name rows 0 to 2, expected -2, -1 or a row of the 2"):
            kernels.launch(name, np.ones((2, 1)), None, np.array([[0, 2]], np.int32), np.zeros((1, 2), np.int32), True)


@pytest.mark.parametrize(("dimension", "size", "stride", "padding", "dilation"), [
    (1, 3, 2, 1, 1), (2, (2, 3), 1, (0, 1), 1), (3, 3, 2, 1, 1), (3, 2, 3, 1, 2), (4, 2, 2, 1, 1), (2, 9, 4, 4, 1)])
def test_windows_are_the_neighbours_and_tell_what_lies_outside(launch, dimension, size, stride, padding, dilation):
    rng, spatial_size = np.random.default_rng(dimension), (5, 6, 4, 3)[:dimension]
    coordinates = reference.random_coordinates(rng, min(12, np.prod(spatial_size)), spatial_size, 2)
    rulebook = ActiveSites(coordinates, spatial_size, 2).rulebook(Geometry.make(dimension, size, stride, padding,
                                                                                dilation))
    geometry, outputs = rulebook.geometry, rulebook.output_sites.coordinates
    found = launch("windows", rulebook.neighbours, outputs, *rulebook._axes)
    cells = (outputs[:, None, 1:] * np.array(geometry.stride) - geometry.padding
             + geometry.kernel_offsets * np.array(geometry.dilation))
    inside = ((cells >= 0) & (cells < spatial_size)).all(axis=2)
    assert found.dtype == np.int32 and not inside.all()
    np.testing.assert_array_equal(found, np.where(inside, rulebook.neighbours, OUTSIDE))


def test_windows_of_a_filter_without_padding_take_no_memory():
    sites = ActiveSites(np.array([[0, 1, 1], [0, 3, 2]]), (5, 5), 1)
    plain, padded = sites.rulebook(Geometry.make(2, 3)), sites.rulebook(Geometry.make(2, 3, 1, 1))
    assert plain.windows is plain.neighbours and padded.windows is padded.windows is not padded.neighbours


def test_neighbours_of_another_filter_are_refused(launch):
    with pytest.raises(ValueError, match=r"windows: neighbours have 4 offsets, expected 9 for a filter of size"):
        launch("windows", np.zeros((1, 4), np.int32), np.zeros((1, 3), np.int32), *[(3, 3)] * 6)
