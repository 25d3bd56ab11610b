"""Max-pooling kernels against a plain loop: ties, negatives, NaN, the background as a competitor."""

import numpy as np
import pytest

from sparsenet.kernels import get_num_threads, launch, set_num_threads


def forward(features, background, neighbours, coordinates):
    out = np.zeros((len(neighbours), features.shape[1]), features.dtype)
    argmax = np.zeros(out.shape, np.int16)
    for m, row in enumerate(neighbours):
        for c in range(features.shape[1]):
            best = None
            for k, n in enumerate(row):
                if n < 0 and background is None:
                    continue
                ground = 0 if background is None else background[coordinates[m, 0] if len(background) > 1 else 0, c]
                value = features[n, c] if n >= 0 else ground
                if best is None or value > best:
                    best, argmax[m, c] = value, k
            out[m, c] = best
    return out, argmax


def case(n=40, m=30, k=8, c=5, samples=3, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    splits_in, splits_out = (np.sort(np.r_[0, rng.integers(0, size + 1, samples - 1), size]) for size in (n, m))
    neighbours = np.full((m, k), -1, np.int32)
    samples_of = np.searchsorted(splits_out, np.arange(m), side="right") - 1
    for row in range(m):  # a sample's outputs see its own inputs, each input at most once for each offset
        first, last = splits_in[samples_of[row]], splits_in[samples_of[row] + 1]
        if last > first:
            neighbours[row] = np.where(rng.random(k) < 0.6, rng.integers(first, last, k), -1)
    neighbours[(neighbours < 0).all(axis=1), 0] = 0
    features = rng.integers(-3, 3, (n, c)).astype(dtype)  # many ties, many negatives
    coordinates = np.zeros((m, 4), np.int32)
    coordinates[:, 0] = samples_of
    return features, neighbours, coordinates, splits_out.astype(np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ground", [None, -1.0, 0.5, "by sample"])
@pytest.mark.parametrize("channels", [1, 5, 33])
def test_forward(dtype, ground, channels):
    features, neighbours, coordinates, _ = case(c=channels, dtype=dtype)
    background = ground
    if ground is not None:
        rows = np.arange(3).reshape(3, 1) if ground == "by sample" else np.array([[ground]])
        background = np.broadcast_to(rows, (len(rows), channels)).astype(dtype)
    out, argmax = launch("max_pool_forward", features, background, neighbours, coordinates)
    expected, expected_argmax = forward(features, background, neighbours, coordinates)
    assert np.array_equal(out, expected)
    assert np.array_equal(argmax, expected_argmax)


@pytest.mark.parametrize("channels", [1, 5, 70])
@pytest.mark.parametrize("threads", [1, 3])
def test_backward_follows_the_argmax(channels, threads):
    before = get_num_threads()
    set_num_threads(threads)
    features, neighbours, coordinates, splits = case(c=channels)
    background = np.zeros((1, channels), np.float32)
    _, argmax = launch("max_pool_forward", features, background, neighbours, coordinates)
    gradient = np.random.default_rng(1).integers(-5, 5, argmax.shape).astype(np.float32)
    to_features, ground = launch("max_pool_backward", gradient, argmax, neighbours, splits, len(features))
    set_num_threads(before)
    expected, expected_ground = np.zeros_like(features), np.zeros((3, channels), np.float32)
    for m, c in np.ndindex(argmax.shape):
        n = neighbours[m, argmax[m, c]]
        if n >= 0:
            expected[n, c] += gradient[m, c]
        else:
            expected_ground[coordinates[m, 0], c] += gradient[m, c]
    assert np.array_equal(to_features, expected)
    assert np.array_equal(ground, expected_ground)


def test_nan_wins():
    features = np.array([[1.0], [np.nan], [5.0]])
    coordinates = np.zeros((1, 2), np.int32)
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        out, argmax = launch("max_pool_forward", features, None, np.array([order], np.int32), coordinates)
        assert np.isnan(out[0, 0]) and order[argmax[0, 0]] == 1


def test_empty():
    coordinates = np.zeros((0, 4), np.int32)
    out, argmax = launch("max_pool_forward", np.zeros((0, 3)), None, np.zeros((0, 8), np.int32), coordinates)
    assert out.shape == argmax.shape == (0, 3) and argmax.dtype == np.int16
    to_features, ground = launch("max_pool_backward", out, argmax, np.zeros((0, 8), np.int32),
                                 np.zeros(3, np.int64), 4)
    assert np.array_equal(to_features, np.zeros((4, 3))) and np.array_equal(ground, np.zeros((2, 3)))


def test_a_window_too_large_for_the_argmax():
    with pytest.raises(ValueError, match="32768 kernel offsets, at most 32767"):
        launch("max_pool_forward", np.zeros((1, 1)), None, np.zeros((1, 32768), np.int32), np.zeros((1, 2), np.int32))
