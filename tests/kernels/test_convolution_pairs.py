"""Convolution over pairs against a plain loop in float64, and the choice of the view on a CPU."""

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import reference
from convolution_cases import Pairs, through

import sparsenet as sn
from sparsenet.kernels import launch, table, views_read
from sparsenet.kernels.convolution import view as views
from sparsenet.kernels.cpu import blas
from sparsenet.sparse import ActiveSites, Geometry

CHOICE = {name: getattr(views, name) for name in ("forward_view", "input_gradient_view", "weight_gradient_view")}
# N, M, K, C_in, C_out
SHAPES = [(0, 0, 8, 3, 5), (0, 4, 8, 3, 5), (5, 0, 8, 3, 5), (1, 1, 1, 1, 1), (50, 70, 8, 1, 32), (60, 40, 27, 7, 3),
          (80, 70, 8, 20, 36), (5, 6, 2, 0, 3), (5, 6, 2, 3, 0), (3000, 2500, 8, 16, 24), (9000, 9000, 2, 4, 6)]


def case(n, m, k, c_in, c_out, filled=0.5, dtype=np.float32, seed=0):
    """Pairs whose columns rise within each offset, and arrays."""
    rng = np.random.default_rng(seed)
    count = int(filled * min(n, m))
    lists = [np.stack([np.sort(rng.choice(rows, count, replace=False)) for rows in (n, m)], axis=1) if count else
             np.zeros((0, 2)) for _ in range(k)]
    pairs = np.concatenate(lists).astype(np.int32)
    arrays = (rng.standard_normal(shape).astype(dtype) for shape in ((n, c_in), (k, c_in, c_out), (m, c_out), (c_out,)))
    return (pairs, np.arange(k + 1) * count, *arrays)


def by_offset(pairs, splits):
    """(offset, input rows, output rows)"""
    return [(k, *pairs[start:stop].T) for k, (start, stop) in enumerate(pairwise(splits.tolist()))]


def forward(features, weights, pairs, splits, rows, constant):
    out = np.zeros((rows, weights.shape[2]))
    for k, inputs, outputs in by_offset(pairs, splits):
        np.add.at(out, outputs, features[inputs].astype(float) @ weights[k].astype(float))
    return out + (0 if constant is None else constant)


def input_gradient(gradient, weights, pairs, splits, rows):
    return forward(gradient, weights.transpose(0, 2, 1), pairs[:, ::-1], splits, rows, None)


def weight_gradient(features, gradient, pairs, splits):
    return np.stack([features[inputs].astype(float).T @ gradient[outputs].astype(float)
                     for _, inputs, outputs in by_offset(pairs, splits)])


@pytest.fixture
def own_choice():
    """Restores the real choice of the view, for tests of the choice itself."""
    with mock.patch.multiple(views, **CHOICE):
        yield


@pytest.fixture(autouse=True)
def threads():
    before = sn.get_num_threads()
    with through("pairs"):
        yield
    sn.set_num_threads(before)


@pytest.mark.parametrize("filled", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_three_passes(shape, filled, dtype):
    pairs, splits, features, weights, gradient, constant = case(*shape, filled=filled, dtype=dtype)
    n, m = len(features), len(gradient)
    rulebook = Pairs(pairs, splits, n, m)
    for given in (constant, None):
        out = launch("convolution_forward", features, weights, rulebook, given)
        assert out.dtype == dtype
        reference.assert_close(out, forward(features, weights, pairs, splits, m, given))
    back = launch("convolution_input_gradient", gradient, weights, rulebook)
    assert back.dtype == dtype
    reference.assert_close(back, input_gradient(gradient, weights, pairs, splits, n))
    slopes = launch("convolution_weight_gradient", features, gradient, rulebook)
    assert slopes.dtype == dtype
    reference.assert_close(slopes, weight_gradient(features, gradient, pairs, splits))


@pytest.mark.parametrize("size", [(6, 6, 6), (7, 7, 7)])  # the last cells of 7 are in no window
def test_windows_apart(size):
    rng = np.random.default_rng(2)
    sites = ActiveSites(np.argwhere(rng.random((2, *size)) < 0.6), size, 2)
    geometry = Geometry.make(3, 2, stride=2)
    rulebook = sites.rulebook(geometry)
    weights = rng.standard_normal((8, 5, 3)).astype(np.float32)
    gradient = rng.standard_normal((len(rulebook.output_sites), 3)).astype(np.float32)
    view = rulebook.pairs, rulebook.pair_splits
    assert geometry.non_overlapping and (len(rulebook.pairs) < len(sites)) == (size == (7, 7, 7))
    back = launch("convolution_input_gradient", gradient, weights, rulebook)
    reference.assert_close(back, input_gradient(gradient, weights, *view, len(sites)))


@pytest.mark.parametrize("filled", [0.05, 0.5, 1.0])
def test_bits_do_not_depend_on_threads(filled):
    pairs, splits, features, weights, gradient, constant = case(5000, 6000, 8, 32, 40, filled)
    results, rulebook = [], Pairs(pairs, splits, 5000, 6000)
    for number in (1, 2, 5):
        sn.set_num_threads(number)
        results.append((launch("convolution_forward", features, weights, rulebook, constant),
                        launch("convolution_input_gradient", gradient, weights, rulebook),
                        launch("convolution_weight_gradient", features, gradient, rulebook)))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_not_a_number_reaches_those_who_read_it_and_no_one_else():
    pairs, splits, features, weights, _, _ = case(40, 50, 8, 8, 8, filled=0.3)
    features[7, 3] = np.nan
    out = launch("convolution_forward", features, weights, Pairs(pairs, splits, 40, 50), None)
    reads = np.isin(np.arange(50), pairs[pairs[:, 0] == 7, 1])
    assert np.array_equal(np.isnan(out).all(axis=1), reads) and np.array_equal(np.isnan(out).any(axis=1), reads)


@pytest.mark.parametrize("splits", [[0, 5], [0, 5, 9], [0, 6, 5, 10], [1, 5, 5, 10], [0, 5, 5, 1000], []])
def test_splits_that_do_not_fit_raise(splits):
    pairs = np.stack([np.arange(10)] * 2, axis=1).astype(np.int32)
    with pytest.raises(ValueError, match="transposed_of_pairs: pair_splits"):
        launch("transposed_of_pairs", pairs, np.array(splits, np.int64), 10)


WRONG = {"splits that fall": ([0, 6, 5, 10], 0, "pair_splits is .*rise from 0 to 10"),
         "splits that end early": ([0, 5, 5, 9], 0, "pair_splits is .*rise from 0 to 10"),
         "an input that does not exist": ([0, 5, 5, 10], -1, "pairs name rows 0 to 10, expected a row of the 10 input")}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_rulebook_is_refused_when_checking(wrong, monkeypatch):
    monkeypatch.setattr(table, "checking", lambda: True)
    splits, shift, words = WRONG[wrong]
    pairs = np.stack([np.arange(10) - shift, np.arange(10)], axis=1).astype(np.int32)
    pairs[0, 0] = 0
    rulebook = Pairs(pairs, np.array(splits, np.int64), 10, 10)
    x, weights = np.ones((10, 4), np.float32), np.ones((3, 4, 4), np.float32)
    for name, arguments in (("forward", (x, weights, rulebook, None)), ("input_gradient", (x, weights, rulebook)),
                            ("forward_by_row", (x, weights, rulebook, None)), ("weight_gradient", (x, x, rulebook))):
        with pytest.raises(ValueError, match=f"convolution_{name}: {words}"):
            launch(f"convolution_{name}", *arguments)


def test_weights_that_nothing_meets_are_not_read():
    """The table multiplies zeros by them, and gives NaN where they are not finite; pairs do not."""
    pairs, splits, features, weights, _, _ = case(20, 20, 3, 4, 4, filled=0.5)
    empty = np.array([0, *splits[1:2], *splits[1:3]])  # nothing under offset 1
    weights[1] = np.inf
    out = launch("convolution_forward", features, weights, Pairs(pairs[: splits[2]], empty, 20, 20), None)
    assert np.isfinite(out).all()


class Counts:
    """A rulebook of which only the sizes are known."""

    device, submanifold = "cpu", False

    def __init__(self, pairs, inputs, outputs, offsets, max_pairs=None):
        self.pair_count, self.shape = pairs, (inputs, outputs, offsets)
        self.max_pairs = inputs * offsets if max_pairs is None else max_pairs


@pytest.mark.parametrize(("kernel", "rulebook", "channels", "view"), [
    ("forward", Counts(2_700, 900, 1000, 27), (32, 64), "pairs"),
    ("forward", Counts(27_000, 1000, 1000, 27), (32, 64), "neighbours"),
    ("forward", Counts(13_500, 1000, 1000, 27), (1, 32), "neighbours"),
    ("forward_by_row", Counts(2_700, 900, 1000, 27), (32, 64), "pairs"),
    ("input_gradient", Counts(2_700, 1000, 900, 27), (64, 32), "pairs"),
    ("input_gradient", Counts(27_000, 1000, 1000, 27), (64, 32), "transposed_neighbours"),
    ("weight_gradient", Counts(2_700, 900, 1000, 27), (32, 64), "pairs"),
    ("weight_gradient", Counts(7_900, 1000, 1600, 8), (32, 64), "transposed_neighbours"),  # stride 1: inputs are full
    ("weight_gradient", Counts(8_000, 8000, 1000, 8), (32, 64), "neighbours"),  # stride 2, filled
])
@pytest.mark.usefixtures("own_choice")
def test_the_cheapest_view_follows_filling_and_channels(kernel, rulebook, channels, view):
    assert views_read(f"convolution_{kernel}", rulebook, *channels) == (view,)


@pytest.mark.usefixtures("own_choice")
def test_pairs_are_not_counted_if_their_bounds_decide():
    few, many = Counts(None, 900, 1000, 27, max_pairs=2_700), Counts(None, 30_000, 30_000, 2)
    assert views_read("convolution_forward", few, 32, 64) == ("pairs",)
    assert views_read("convolution_forward", many, 1, 32) == ("neighbours",)


@pytest.mark.parametrize("geometry", [Geometry.make(3, 2), Geometry.make(3, 2, 2), Geometry.make(3, 3, 2, 1),
                                      Geometry.make_submanifold(3, 3)], ids=str)
def test_all_views_give_the_same_layer(geometry):
    """Values and all gradients of an operation, through each view of its rulebook."""
    rng = np.random.default_rng(3)
    cells = np.argwhere(rng.random((2, 8, 8, 8)) < 0.3)
    arrays = [rng.standard_normal(shape) for shape in ((len(cells), 5), (geometry.volume, 5, 4), (4,), (5,))]
    results = []
    for view in ("neighbours", "transposed_neighbours", "pairs"):
        features, weight, bias, background = (sn.Tensor(array, requires_grad=True) for array in arrays)
        x = sn.SparseTensor(features, cells, (8, 8, 8), 2, background=background)
        with through(view):
            y = sn.ops.convolution(x, weight, bias, geometry)
            (y.features * y.features).sum().backward()
        assert ("_pairs" in vars(x.sites.rulebook(geometry))) == (view == "pairs")
        results.append([y.features.array, *(tensor.grad for tensor in (features, weight, bias, background))])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_the_loop_of_matmul_is_checked_before_it_is_used(monkeypatch):
    assert blas.product_loop(np.dtype(np.float32)) != blas.product_loop(np.dtype(np.float64))
    monkeypatch.setattr(blas, "_multiply_once", lambda *_: None)
    with pytest.raises(RuntimeError, match=r"product_loop: .*NumPy .*requirements"):
        blas.product_loop.__wrapped__(np.dtype(np.float32))
