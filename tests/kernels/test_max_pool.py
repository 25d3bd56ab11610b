"""Max-pooling kernels against a plain loop: ties, negatives, NaN, the background as a competitor."""

import numpy as np
import pytest
import reference
from convolution_cases import Table
from cuda_host.storage import each_storage, in_half
from pooling_cases import OUTSIDE, case

from sparsenet import kernels
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.sparse import ActiveSites, Geometry


def forward(features, background, neighbours, coordinates):
    out = np.zeros((len(neighbours), features.shape[1]), features.dtype)
    argmax = np.zeros(out.shape, np.int16)
    for m, row in enumerate(neighbours):
        for c in range(features.shape[1]):
            best = None
            for k, n in enumerate(row):
                if n == OUTSIDE or (n < 0 and background is None):
                    continue
                competitor = 0 if background is None else background[coordinates[m, 0] if len(background) > 1 else 0, c]
                value = features[n, c] if n >= 0 else competitor
                if best is None or value > best:
                    best, argmax[m, c] = value, k
            out[m, c] = 0 if best is None else best
    return out, argmax


@each_storage
@pytest.mark.parametrize("kind", [None, -1.0, 0.5, "by sample"])
@pytest.mark.parametrize("channels", [1, 5, 32, 47])
def test_forward(launch, dtype, kind, channels):
    features, neighbours, coordinates, _ = case(c=channels, dtype=dtype)
    background = kind
    if kind is not None:
        rows = np.arange(3).reshape(3, 1) if kind == "by sample" else np.array([[kind]])
        background = np.broadcast_to(rows, (len(rows), channels)).astype(dtype)
    out, argmax = launch("max_pool_forward", features, background, neighbours, coordinates)
    expected, expected_argmax = forward(features, background, neighbours, coordinates)
    assert np.array_equal(out, expected)
    assert np.array_equal(argmax, expected_argmax)


@each_storage
@pytest.mark.parametrize("kind", [0.5, "by sample", None])
@pytest.mark.parametrize(("channels", "k"), [(5, 8), (64, 27), (32, 32), (32, 40)])
def test_values_relative_to_the_background(launch, dtype, kind, channels, k):
    features, neighbours, coordinates, _ = case(c=channels, k=k, dtype=dtype)
    background = None if kind is None else np.full((1, channels), 0.5, dtype)
    if kind == "by sample":
        background = np.repeat(np.arange(3, dtype=dtype)[:, None], channels, axis=1)
    out, argmax = launch("max_pool_forward", features, background, neighbours, coordinates)
    expected, expected_argmax = forward(features, background, neighbours, coordinates)
    assert np.array_equal(out, expected) and np.array_equal(argmax, expected_argmax)
    relative, same = launch("max_pool_forward", features, background, neighbours, coordinates, True)
    rows = 0 if background is None else background[coordinates[:, 0] if len(background) > 1 else 0]
    assert relative.dtype == dtype and np.array_equal(relative, out - rows) and np.array_equal(same, argmax)


@each_storage
@pytest.mark.parametrize("channels", [1, 5, 70, 144])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("outputs", [(12, 0, 18), (0, 64, 1), (130, 0, 0)])
def test_backward_follows_the_argmax(launch, dtype, channels, threads, outputs):
    before = get_num_threads()
    set_num_threads(threads)
    features, neighbours, coordinates, splits = case(outputs, c=channels, dtype=dtype)
    background = np.zeros((1, channels), dtype)
    _, argmax = launch("max_pool_forward", features, background, neighbours, coordinates)
    gradient = np.random.default_rng(1).integers(-5, 5, argmax.shape).astype(dtype)
    to_features, to_background = launch("max_pool_backward", gradient, argmax, Table(neighbours, len(features)), splits)
    set_num_threads(before)
    assert to_features.dtype == to_background.dtype == dtype
    expected, expected_background = np.zeros_like(features), np.zeros((3, channels), dtype)
    for m, c in np.ndindex(argmax.shape):
        n = neighbours[m, argmax[m, c]]
        if n >= 0:
            expected[n, c] += gradient[m, c]
        else:
            expected_background[coordinates[m, 0], c] += gradient[m, c]
    assert np.array_equal(to_features, expected)
    assert np.array_equal(to_background, expected_background)


@each_storage
@pytest.mark.parametrize(("outputs", "channels"), [((12, 0, 18), 5), ((0, 64, 1), 5), ((0, 0, 0), 5),
                                                   ((70, 130, 58), 5), ((300, 400, 10), 70)])
def test_without_splits_all_rows_count_as_one_sample(launch, dtype, outputs, channels):
    features, neighbours, coordinates, splits = case(outputs, c=channels, dtype=dtype)
    _, argmax = launch("max_pool_forward", features, np.zeros((1, channels), dtype), neighbours, coordinates)
    gradient = np.random.default_rng(1).integers(-5, 5, argmax.shape).astype(dtype)  # sums are exact
    rulebook = Table(neighbours, len(features))
    by_sample = launch("max_pool_backward", gradient, argmax, rulebook, splits)
    at_once = launch("max_pool_backward", gradient, argmax, rulebook, None)
    assert np.array_equal(at_once[0], by_sample[0])
    assert at_once[1].dtype == dtype and np.array_equal(at_once[1], by_sample[1].sum(axis=0, keepdims=True))


@in_half
def test_gradients_of_float16_are_added_up_in_float32(launch, dtype):
    """300 windows give 2048 + 1 + 1 ... to the background, which float16 would not count."""
    neighbours = np.full((301, 1), -1, np.int32)
    gradient = np.ones((301, 3), dtype)
    gradient[0] = 2048
    argmax = np.zeros((301, 3), np.int16)
    _, to_background = launch("max_pool_backward", gradient, argmax, Table(neighbours, 2), np.array([0, 301]))
    reference.assert_close(to_background, np.full((1, 3), 2348.0))


@each_storage
@pytest.mark.parametrize(("channels", "k"), [(5, 8), (40, 8), (40, 70)])
def test_a_window_of_inactive_cells_without_a_background(launch, dtype, channels, k, monkeypatch):
    """0 and argmax 0, whatever was in memory before; its gradient goes to no input."""
    features, neighbours, coordinates, splits = case(c=channels, k=k, dtype=dtype)
    bare = [0, 5, 12, 29]
    neighbours[bare] = -1
    neighbours[bare[1], ::2] = neighbours[bare[2]] = OUTSIDE
    launch("max_pool_forward", features, None, neighbours, coordinates)  # compiles with NumPy's own `empty`
    plain = np.empty
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full_like(plain(shape, dtype), 77))
    out, argmax = launch("max_pool_forward", features, None, neighbours, coordinates)
    expected, expected_argmax = forward(features, None, neighbours, coordinates)
    assert np.array_equal(out, expected) and np.array_equal(argmax, expected_argmax)
    assert not out[bare].any() and not argmax[bare].any()
    monkeypatch.undo()
    gradient = np.random.default_rng(1).integers(1, 5, argmax.shape).astype(dtype)
    to_features, to_background = launch("max_pool_backward", gradient, argmax, Table(neighbours, len(features)), splits)
    lost = np.zeros((3, channels), dtype)
    np.add.at(lost, coordinates[bare, 0], gradient[bare])
    assert np.array_equal(to_background, lost)  # what no background asks for
    gradient[bare] = 0
    without, _ = launch("max_pool_backward", gradient, argmax, Table(neighbours, len(features)), splits)
    assert np.array_equal(to_features, without) and to_features.sum() == gradient.sum()


@pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 2), (3, 1)])
def test_sums_are_taken_in_the_order_of_rows_on_every_backend(launch, size, stride):
    """The gradient of the features has the same bits everywhere: a larger offset leads to an earlier output."""
    rng = np.random.default_rng(2)
    coordinates = np.argwhere(rng.random((2, 7, 7, 7)) < 0.4)
    sites = ActiveSites(coordinates, (7, 7, 7), 2)
    rulebook = sites.rulebook(Geometry.make(3, size, stride))
    features = rng.standard_normal((len(sites), 6)).astype(np.float32)
    gradient = rng.standard_normal((len(rulebook.output_sites), 6)).astype(np.float32)
    _, argmax = launch("max_pool_forward", features, None, rulebook.neighbours, rulebook.output_sites.coordinates)
    splits = rulebook.output_sites.batch_splits
    expected, _ = kernels.launch("max_pool_backward", gradient, argmax, rulebook, splits)
    to_features, _ = launch("max_pool_backward", gradient, argmax, rulebook, splits)
    assert np.array_equal(to_features, expected)


def test_nan_wins(launch):
    features = np.array([[1.0], [np.nan], [5.0]])
    coordinates = np.zeros((1, 2), np.int32)
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        out, argmax = launch("max_pool_forward", features, None, np.array([order], np.int32), coordinates)
        assert np.isnan(out[0, 0]) and order[argmax[0, 0]] == 1


@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("k", [1, 27, 31, 32, 33, 63, 64, 65, 70])
@pytest.mark.parametrize("kind", [None, "by sample"])
@pytest.mark.parametrize("finite", [True, False])
def test_windows_of_any_size_with_not_a_number_and_both_zeros(channels, k, kind, finite):
    """Compared with a loop in which a value wins if it is larger or NaN; 0 does not win against -0.  Rows with NaN, and
    with infinities of both signs, are computed in another way than finite ones."""
    features, neighbours, coordinates, _ = case(k=k, c=channels)
    rng = np.random.default_rng(k)
    features[...] = rng.choice([-1.0, -0.0, 0.0, 2.0, *([] if finite else [np.nan, np.inf, -np.inf])], features.shape)
    if finite:
        features += rng.standard_normal(features.shape).astype("f4") * (rng.random(features.shape) < 0.5)
    rows = [-2.0, 0.0, 0.5 if finite else np.nan]
    background = None if kind is None else rng.choice(rows, (3, channels)).astype("f4")
    out, argmax = kernels.launch("max_pool_forward", features, background, neighbours, coordinates)
    for m, c in np.ndindex(out.shape):
        best, where, passed = None, 0, background is None
        for offset, n in enumerate(neighbours[m]):
            if n == OUTSIDE or (n < 0 and passed):
                continue
            passed = passed or n < 0
            value = features[n, c] if n >= 0 else background[coordinates[m, 0], c]
            if best is None or value > best or np.isnan(value):
                best, where = value, offset
        best = np.float32(0) if best is None else best  # a window of cells outside the grid
        assert argmax[m, c] == where and out[m, c].tobytes() == best.tobytes()


@pytest.mark.parametrize(("samples", "channels"), [(2, 80), (40, 80), (3, 24)])
def test_the_same_bits_for_any_number_of_threads(samples, channels):
    features, neighbours, coordinates, splits = case(outputs=(60,) * samples, c=channels)
    features[...] = np.random.default_rng(1).standard_normal(features.shape)
    gradient = np.random.default_rng(2).standard_normal((len(neighbours), channels)).astype("f4")
    background = np.zeros((1, channels), "f4")
    before, results = get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            out, argmax = kernels.launch("max_pool_forward", features, background, neighbours, coordinates)
            back = kernels.launch("max_pool_backward", gradient, argmax, Table(neighbours, len(features)), splits)
            results.add(b"".join(array.tobytes() for array in (out, argmax, *back)))
    finally:
        set_num_threads(before)
    assert len(results) == 1


def test_infinities_that_add_up_to_not_a_number_are_compared():
    features = np.full((3, 32), -np.inf, np.float32)
    features[1], features[2] = np.inf, np.finfo(np.float32).max
    coordinates = np.zeros((2, 4), np.int32)
    rows = np.array([[0, 1, 2], [2, 2, 0]], np.int32)
    out, argmax = kernels.launch("max_pool_forward", features, None, rows, coordinates)
    assert (out == [[np.inf], [np.finfo(np.float32).max]]).all() and (argmax == [[1], [0]]).all()


def test_the_background_s_gradient_holds_no_memory_of_the_features():
    rulebook, argmax = Table(np.array([[0, -1]], np.int32), 9), np.ones((1, 4), np.int16)
    _, to_background = kernels.launch("max_pool_backward", np.ones((1, 4), np.float32), argmax, rulebook, None)
    assert to_background.base is None and (to_background == 1).all()


def test_inputs_in_no_window_get_the_gradient_zero():
    """Inputs before the first window, between two samples and after the last one, in memory that was used before."""
    for _ in range(2):
        neighbours = np.array([[20_000, -1], [40_000, 40_001], [40_003, -1]], np.int32)
        argmax, gradient = np.zeros((3, 64), np.int16), np.ones((3, 64), np.float32)
        splits = np.array([0, 1, 1, 3])
        back, _ = kernels.launch("max_pool_backward", gradient, argmax, Table(neighbours, 50_000), splits)
        assert np.flatnonzero(back.any(axis=1)).tolist() == [20_000, 40_000, 40_003]
        back[...] = np.nan


def test_samples_whose_inputs_lie_among_each_other_are_refused():
    neighbours, splits = np.array([[0], [2], [1]], np.int32), np.array([0, 2, 3])
    gradient, argmax = np.ones((3, 2), np.float32), np.zeros((3, 2), np.int16)
    with pytest.raises(ValueError, match="sample 1 begin with input 1, expected 3 or more.*: sort the sites"):
        kernels.launch("max_pool_backward", gradient, argmax, Table(neighbours, 3), splits)


def test_empty(launch):
    coordinates = np.zeros((0, 4), np.int32)
    out, argmax = launch("max_pool_forward", np.zeros((0, 3)), None, np.zeros((0, 8), np.int32), coordinates)
    assert out.shape == argmax.shape == (0, 3) and argmax.dtype == np.int16
    neighbours = np.zeros((0, 8), np.int32)
    to_features, to_background = launch("max_pool_backward", out, argmax, Table(neighbours, 4), np.zeros(3, np.int64))
    assert np.array_equal(to_features, np.zeros((4, 3))) and np.array_equal(to_background, np.zeros((2, 3)))


def test_a_window_too_large_for_the_argmax(launch):
    with pytest.raises(ValueError, match="32768 kernel offsets, at most 32767"):
        launch("max_pool_forward", np.zeros((1, 1)), None, np.zeros((1, 32768), np.int32), np.zeros((1, 2), np.int32))
