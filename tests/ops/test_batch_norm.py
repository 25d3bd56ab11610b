"""batch_norm against the dense layer: values at all cells, gradients of features, background and parameters."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import ops
from sparsenet.nn import BatchNorm

SIZES = [(9,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]
EPS, BATCH, CHANNELS = 1e-3, 3, 3


class Case:
    """A sparse batch whose second sample is empty, its dense twin, and parameters."""

    def __init__(self, rng, spatial_size=(4, 5), own_backgrounds=False, count=11, background=True):
        coordinates = reference.random_coordinates(rng, count, spatial_size, BATCH, empty=(1,))
        coordinates = coordinates[np.lexsort(coordinates.T[::-1])]
        shape = (BATCH, CHANNELS) if own_backgrounds else (CHANNELS,)
        arrays = [3 + rng.standard_normal((len(coordinates), CHANNELS)), rng.standard_normal(shape),
                  *rng.standard_normal((2, CHANNELS))]
        self.leaves = [sn.Tensor(array, requires_grad=True) for array in arrays]
        if not background:
            self.leaves[1] = None
        self.x = sn.SparseTensor(self.leaves[0], coordinates, spatial_size, BATCH, self.leaves[1])
        self.grid = self.x.to_dense().numpy()
        self.active = np.zeros((BATCH, 1, *spatial_size), bool)
        self.active[(self.x.coordinates[:, 0], 0, *self.x.coordinates[:, 1:].T)] = True
        self.running = [sn.Tensor(rng.random(CHANNELS)) for _ in range(2)]

    def run(self, **options):
        return ops.batch_norm(self.x, *self.leaves[2:], *self.running, eps=EPS, **options)

    def expected(self, gradients):
        """Gradients of features, background, weight, bias from the grid's, weight's and bias's."""
        of_grid, *of_parameters = gradients
        cells = np.moveaxis(of_grid, 1, -1)
        rows = cells[(self.x.coordinates[:, 0], *self.x.coordinates[:, 1:].T)]
        rest = np.where(self.active, 0, of_grid).sum(axis=tuple(range(2, of_grid.ndim)))
        return rows, rest if self.leaves[1].ndim == 2 else rest.sum(axis=0), *of_parameters


@pytest.mark.parametrize("own_backgrounds", [False, True], ids=["(C,)", "(B, C)"])
@pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
@pytest.mark.parametrize("statistics", ["grid", "sites"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_equals_the_dense_layer(training, statistics, spatial_size, own_backgrounds, rng):
    case = Case(rng, spatial_size, own_backgrounds)
    weight, bias = (leaf.array for leaf in case.leaves[2:])
    mean, variance = (tensor.array.copy() for tensor in case.running)
    counts = None if statistics == "grid" else case.active
    y = case.run(training=training, statistics=statistics, momentum=0.3)
    dense = y.to_dense()
    gradient = rng.standard_normal(dense.shape)
    dense.backward(gradient)
    found = [leaf.grad for leaf in case.leaves]
    if training:
        expected, of_batch, spread = reference.batch_norm(case.grid, weight, bias, EPS, counts)
        gradients = reference.batch_norm_backward(gradient, case.grid, weight, EPS, counts)
        n = case.active.size if counts is None else case.active.sum()
        mean, variance = 0.7 * mean + 0.3 * of_batch, 0.7 * variance + 0.3 * spread * n / (n - 1)
    else:
        inverse = 1 / np.sqrt(variance + EPS)
        column = (slice(None), *[None] * len(spatial_size))
        normalised = (case.grid - mean[column]) * inverse[column]
        expected = normalised * weight[column] + bias[column]
        axes = (0, *range(2, expected.ndim))
        gradients = gradient * (weight * inverse)[column], (gradient * normalised).sum(axes), gradient.sum(axes)
    reference.assert_close(dense, expected)
    for name, actual, wanted in zip(("features", "background", "weight", "bias"), found, case.expected(gradients),
                                    strict=True):
        reference.assert_close(actual, wanted, f"gradient of {name}")
    for tensor, wanted in zip(case.running, (mean, variance), strict=True):
        reference.assert_close(tensor, wanted, "running statistics")


@pytest.mark.parametrize("own_backgrounds", [False, True], ids=["(C,)", "(B, C)"])
@pytest.mark.parametrize("statistics", ["grid", "sites"])
def test_gradients_by_differences(statistics, own_backgrounds, rng):
    case = Case(rng, own_backgrounds=own_backgrounds)

    def function(features, background, weight, bias):
        return ops.batch_norm(case.x.with_features(features, background), weight, bias, *case.running, training=True,
                              statistics=statistics, eps=EPS).to_dense()

    sn.gradcheck(function, case.leaves)


def test_gradients_that_reach_one_of_the_outputs_alone(rng):
    for output in ("features", "background"):
        case = Case(rng)
        y = case.run(training=True)
        upstream = rng.standard_normal(getattr(y, output).shape)
        getattr(y, output).backward(upstream)
        np.testing.assert_allclose(case.leaves[3].grad, upstream.reshape(-1, CHANNELS).sum(axis=0), rtol=1e-12)
        whole = ops.batch_norm(case.x, *case.leaves[2:], *case.running, training=True, eps=EPS)
        found = [leaf.grad.copy() for leaf in case.leaves]
        for leaf in case.leaves:
            leaf.grad = None
        weights = {name: upstream if name == output else np.zeros(getattr(whole, name).shape)
                   for name in ("features", "background")}
        sum((getattr(whole, name) * array).sum() for name, array in weights.items()).backward()
        for leaf, gradient in zip(case.leaves, found, strict=True):
            reference.assert_close(gradient, leaf.grad)


@pytest.mark.parametrize("statistics", ["grid", "sites"])
def test_without_a_background_sites_alone_count(statistics, rng):
    case = Case(rng, background=False)
    y = case.run(training=True, statistics=statistics)
    assert y.background is None and y.sites is case.x.sites
    x = case.leaves[0].array
    reference.assert_close(y.features, (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPS) * case.leaves[2].array
                           + case.leaves[3].array)


def test_rows_of_a_tensor(rng):
    case = Case(rng)
    x = sn.Tensor(rng.standard_normal((6, CHANNELS)), requires_grad=True)
    y = ops.batch_norm(x, *case.leaves[2:], *case.running, training=True, eps=EPS)
    expected, *_ = reference.batch_norm(x.array, case.leaves[2].array, case.leaves[3].array, EPS)
    reference.assert_close(y, expected)
    sn.gradcheck(lambda rows, weight, bias: ops.batch_norm(rows, weight, bias, *case.running, training=True),
                 [x, *case.leaves[2:]])


@pytest.mark.parametrize("own_backgrounds", [False, True], ids=["(C,)", "(B, C)"])
def test_a_batch_without_a_site_is_normalised_by_the_running_statistics_which_stay(own_backgrounds, rng):
    case = Case(rng, own_backgrounds=own_backgrounds, count=0)
    before = [tensor.array.copy() for tensor in case.running]
    in_training, in_evaluation = case.run(training=True), case.run(training=False)
    np.testing.assert_array_equal(in_training.background.numpy(), in_evaluation.background.numpy())
    assert len(in_training.features.array) == 0
    for tensor, array in zip(case.running, before, strict=True):
        np.testing.assert_array_equal(tensor.array, array)


def test_a_batch_without_a_site_has_statistics_of_its_grid(rng):
    case = Case(rng, own_backgrounds=True, count=0)
    y = case.run(training=True, statistics="grid")
    expected, *_ = reference.batch_norm(case.grid, case.leaves[2].array, case.leaves[3].array, EPS)
    reference.assert_close(y.to_dense(), expected)


def test_one_value_per_channel_raises_in_training_alone(rng):
    case = Case(rng, count=1)
    with pytest.raises(ValueError, match="BatchNorm: there is one value per channel, which has no variance"):
        case.run(training=True)
    case.run(training=True, statistics="grid")
    case.run(training=False)


def test_in_evaluation_a_sample_has_the_same_bits_in_any_batch(rng):
    net = BatchNorm(CHANNELS).eval()
    case = Case(rng)
    x = case.x.to(dtype="float32")
    whole = net(x).features.numpy()
    rows = x.coordinates[:, 0] == 2
    cells = x.coordinates[rows].copy()
    cells[:, 0] = 0
    lone = sn.SparseTensor(x.features.numpy()[rows], cells, (4, 5), 1, x.background.numpy())
    assert net(lone).features.numpy().tobytes() == whole[rows].tobytes()


def test_running_statistics_are_written_in_place_and_seen_by_the_version_counter(rng):
    case = Case(rng)
    arrays, versions = [t.array for t in case.running], [t.version for t in case.running]
    case.run(training=True)
    assert all(t.array is a and t.version > v for t, a, v in zip(case.running, arrays, versions, strict=True))


def test_what_does_not_fit_is_refused(rng):
    case = Case(rng)
    with pytest.raises(ValueError, match="BatchNorm: x has 3 channels, weight has shape"):
        ops.batch_norm(case.x, sn.Tensor(np.ones(2)), case.leaves[3], *case.running)
    with pytest.raises(ValueError, match="BatchNorm: statistics is 'cells', expected one of sites, grid"):
        case.run(statistics="cells")
    with pytest.raises(TypeError, match="BatchNorm: weight is float64, x is float32"):
        ops.batch_norm(case.x.to(dtype="float32"), *case.leaves[2:], *case.running)
    with pytest.raises(TypeError, match="BatchNorm: the input is ndarray"):
        ops.batch_norm(np.ones((2, 3)), *case.leaves[2:], *case.running)
    with pytest.raises(ValueError, match=r"BatchNorm: x has shape \(3,\), expected \(B, C\)"):
        ops.batch_norm(sn.Tensor(np.ones(3)), *case.leaves[2:], *case.running)
    for options, message in (({"momentum": 2}, "momentum is 2, expected a number from 0 to 1"),
                             ({"eps": float("nan")}, "eps is nan, expected a number from 0"),
                             ({"statistics": "all"}, "statistics is 'all', expected one of sites, grid")):
        with pytest.raises(ValueError, match=f"BatchNorm: {message}"):
            BatchNorm(3, **options)


def test_the_layer_keeps_its_statistics_through_state_pickle_and_dtype(rng):
    case, net = Case(rng), BatchNorm(CHANNELS, statistics="grid").to(dtype="float64")
    net(case.x)
    state = net.state_dict()
    assert set(state) == {"weight", "bias", "running_mean", "running_var"} and np.any(state["running_mean"])
    assert repr(net) == "BatchNorm(3, statistics of the grid)"
    twin = BatchNorm(CHANNELS).to(dtype="float64")
    twin.load_state_dict(state)
    copy = pickle.loads(pickle.dumps(net))
    outputs = {one.eval()(case.x).features.numpy().tobytes() for one in (net, twin, copy)}
    assert len(outputs) == 1
    assert net.to(dtype="float32").running_var.dtype == np.float32
