"""group_norm, instance_norm and layer_norm against the dense layers: values at all cells, gradients of features,
background and parameters."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import inspect, ops

SIZES = [(9,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]
EPS, BATCH, CHANNELS = 1e-2, 4, 6
GROUPS = {"instance": 6, "group": 2, "layer": 1}
each_size = pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
each_background = pytest.mark.parametrize("own_backgrounds", [False, True], ids=["(C,)", "(B, C)"])


class Case:
    """A sparse batch of four samples, the second without a site, the fourth with one; its dense twin; parameters."""

    def __init__(self, rng, spatial_size=(4, 5), own_backgrounds=False, background=True):
        coordinates = reference.random_coordinates(rng, 7, spatial_size, BATCH, empty=(1, 3))
        coordinates = np.concatenate([coordinates, [[3] + [1] * len(spatial_size)]])
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
        self.active[(coordinates[:, 0], 0, *coordinates[:, 1:].T)] = True

    def run(self, norm, x=None, statistics="sites", parameters=None):
        x, parameters = self.x if x is None else x, parameters or self.leaves[2:]
        if norm == "layer":
            return ops.layer_norm(x, *parameters, eps=EPS)
        if norm == "instance":
            return ops.instance_norm(x, *parameters, EPS, statistics)
        return ops.group_norm(x, GROUPS[norm], *parameters, EPS, statistics)

    def expected(self, gradients):
        """Gradients of features, background, weight, bias from the grid's, weight's and bias's."""
        of_grid, *of_parameters = gradients
        rows = reference.from_grid(of_grid, self.x.coordinates)
        rest = np.where(self.active, 0, of_grid).sum(axis=tuple(range(2, of_grid.ndim)))
        return rows, rest if self.leaves[1].ndim == 2 else rest.sum(axis=0), *of_parameters


def dense(norm, case, statistics, gradient=None):
    """The dense layer's output; with a gradient of it the gradients of grid, weight and bias."""
    weight, bias = (leaf.array for leaf in case.leaves[2:])
    grid, counts = case.grid, None if statistics == "grid" else case.active
    if norm == "layer":  # each cell is a sample
        grid, counts = np.moveaxis(grid, 1, -1).reshape(-1, CHANNELS, 1), None
        gradient = None if gradient is None else np.moveaxis(gradient, 1, -1).reshape(grid.shape)

    def back(rows):
        return np.moveaxis(rows.reshape(BATCH, *case.x.spatial_size, CHANNELS), -1, 1) if norm == "layer" else rows

    if gradient is None:
        return back(reference.group_norm(grid, GROUPS[norm], weight, bias, EPS, counts))
    of_grid, *rest = reference.group_norm_backward(gradient, grid, GROUPS[norm], weight, EPS, counts)
    return back(of_grid), *rest


@each_background
@each_size
@pytest.mark.parametrize(("norm", "statistics"), [("instance", "sites"), ("instance", "grid"), ("group", "sites"),
                                                  ("group", "grid"), ("layer", "grid")])
def test_equals_the_dense_layer(norm, statistics, spatial_size, own_backgrounds, rng):
    case = Case(rng, spatial_size, own_backgrounds)
    y = case.run(norm, statistics=statistics)
    assert y.sites is case.x.sites
    assert y.background.shape == ((BATCH, CHANNELS) if norm != "layer" else case.x.background.shape)
    grid = y.to_dense()
    reference.assert_close(grid, dense(norm, case, statistics))
    gradient = rng.standard_normal(grid.shape)
    grid.backward(gradient)
    wanted = case.expected(dense(norm, case, statistics, gradient))
    for name, leaf, expected in zip(("features", "background", "weight", "bias"), case.leaves, wanted, strict=True):
        reference.assert_close(leaf.grad, expected, f"gradient of {name}")


@each_background
@pytest.mark.parametrize(("norm", "statistics"), [("group", "sites"), ("group", "grid"), ("layer", "grid")])
def test_gradients_by_differences(norm, statistics, own_backgrounds, rng):
    case = Case(rng, own_backgrounds=own_backgrounds)

    def function(features, background, *parameters):
        return case.run(norm, case.x.with_features(features, background), statistics, parameters).to_dense()

    sn.gradcheck(function, case.leaves)


@pytest.mark.parametrize("norm", GROUPS)
@pytest.mark.parametrize("output", ["features", "background"])
def test_gradients_that_reach_one_of_the_outputs_alone(norm, output, rng):
    case, again = (Case(np.random.default_rng(3)) for _ in range(2))
    y, whole = case.run(norm), again.run(norm)
    upstream = rng.standard_normal(getattr(y, output).shape)
    getattr(y, output).backward(upstream)
    other = "features" if output == "background" else "background"
    ((getattr(whole, output) * upstream).sum() + (getattr(whole, other) * 0.0).sum()).backward()
    for leaf, expected in zip(case.leaves, again.leaves, strict=True):
        found = np.zeros_like(expected.grad) if leaf.grad is None else leaf.grad
        reference.assert_close(found, expected.grad)


@pytest.mark.parametrize("statistics", ["sites", "grid"])
@pytest.mark.parametrize("norm", GROUPS)
def test_without_a_background_sites_alone_count(norm, statistics, rng):
    case = Case(rng, background=False)
    y = case.run(norm, statistics=statistics)
    assert y.background is None
    expected = reference.from_grid(dense(norm, case, "sites"), case.x.coordinates)
    reference.assert_close(y.features, expected)
    sn.gradcheck(lambda features, *parameters: case.run(norm, case.x.with_features(features, None), statistics,
                                                        parameters).features, [case.leaves[0], *case.leaves[2:]])


@pytest.mark.parametrize("norm", GROUPS)
@pytest.mark.parametrize("background", [np.arange(6.0), None], ids=["background", "none"])
def test_a_batch_without_a_site(norm, background, rng):
    case = Case(rng)
    x = sn.SparseTensor(np.zeros((0, CHANNELS)), np.zeros((0, 3), int), (4, 5), 2, background)
    y = case.run(norm, x)
    assert y.features.shape == (0, CHANNELS)
    if background is None:
        y.features.sum().backward()
        assert not case.leaves[2].grad.any() and y.background is None
        return
    rows = np.broadcast_to(background, (2, CHANNELS))[:, :, None]
    expected = reference.group_norm(rows, GROUPS[norm], *(leaf.array for leaf in case.leaves[2:]), EPS)[:, :, 0]
    reference.assert_close(y.to_dense(), np.broadcast_to(expected[:, :, None, None], (2, CHANNELS, 4, 5)))


def test_a_sample_with_one_site_becomes_the_bias(rng):
    case = Case(rng)
    y = case.run("instance")
    row = y.features.numpy()[case.x.coordinates[:, 0] == 3]
    np.testing.assert_array_equal(row, case.leaves[3].array[None])
    y.features.backward(rng.standard_normal(y.features.shape))
    assert np.abs(case.leaves[0].grad[-1]).max() < 1e-12


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_rows_of_a_tensor_are_samples_of_one_cell(norm, rng):
    case = Case(rng)
    x = sn.Tensor(rng.standard_normal((5, CHANNELS)), requires_grad=True)
    expected = reference.group_norm(x.array[:, :, None], GROUPS[norm], *(leaf.array for leaf in case.leaves[2:]), EPS)
    reference.assert_close(case.run(norm, x), expected[:, :, 0])
    sn.gradcheck(lambda rows, *parameters: case.run(norm, rows, "sites", parameters), [x, *case.leaves[2:]])


def layers(statistics="sites"):
    return [sn.nn.InstanceNorm(CHANNELS, statistics=statistics), sn.nn.GroupNorm(3, CHANNELS, statistics=statistics),
            sn.nn.LayerNorm(CHANNELS)]


@pytest.mark.parametrize("statistics", ["sites", "grid"])
@pytest.mark.parametrize("training", [True, False])
def test_a_sample_has_the_same_bits_in_any_batch(training, statistics, rng):
    case = Case(rng, own_backgrounds=True)
    x = case.x.to(dtype="float32")
    net = sn.nn.Sequential(*layers(statistics)).train(training)
    whole = net(x)
    for sample in range(BATCH):
        rows = x.coordinates[:, 0] == sample
        cells = x.coordinates[rows].copy()
        cells[:, 0] = 0
        lone = net(sn.SparseTensor(x.features.numpy()[rows], cells, (4, 5), 1, x.background.numpy()[[sample]]))
        assert lone.features.numpy().tobytes() == whole.features.numpy()[rows].tobytes()
        assert lone.background.numpy().tobytes() == whole.background.numpy()[sample].tobytes()


def test_the_layers_keep_their_settings_through_state_pickle_and_dtype(rng):
    case = Case(rng)
    assert [repr(layer) for layer in layers("grid")] == [
        "InstanceNorm(6, statistics of the grid)", "GroupNorm(3 groups of 2, statistics of the grid)", "LayerNorm(6)"]
    for layer in layers("grid"):
        layer.to(dtype="float64").weight.array[:] = 2
        assert set(layer.state_dict()) == {"weight", "bias"} and layer.eps == 1e-5
        copy = pickle.loads(pickle.dumps(layer))
        assert copy(case.x).features.numpy().tobytes() == layer(case.x).features.numpy().tobytes()


def test_a_network_with_these_layers_is_built_traced_and_summed_up(rng):
    net = sn.SparseNetwork(2).add_submanifold(6, 3).add_instance_norm(statistics="grid").add_relu()
    net.add_submanifold(6, 3).add_group_norm(3).add_leaky_relu(0.1).add_layer_norm().add_linear(6)
    net.add_group_norm(2).add_layer_norm(eps=1e-3)
    assert [name for name in net.names() if "norm" in name] == [
        "instance_norm1", "group_norm1", "layer_norm1", "group_norm2", "layer_norm2"]
    assert net.out_channels == 6
    x = sn.SparseTensor(np.ones((9, 1), np.float32), np.insert(np.argwhere(np.ones((3, 3))), 0, 0, axis=1), (6, 6), 1)
    assert "instance_norm1" in net.summary(x)
    seen = inspect.trace(net, x)
    assert seen.records[1].background.shape == (1, 6) and "group_norm2" in str(seen)
    with pytest.raises(ValueError, match="add_instance_norm: the network gives a plain Tensor by now"):
        net.add_instance_norm()


def test_a_pooling_behind_them_still_sets_the_bound_of_first_weights():
    plain = sn.SparseNetwork().add_convolution(6, 2).add_max_pool(3, 2)
    normed = sn.SparseNetwork().add_convolution(6, 2).add_group_norm(2).add_layer_norm().add_max_pool(3, 2)
    np.testing.assert_array_equal(plain.layers[0].weight.array, normed.layers[0].weight.array)


def test_what_does_not_fit_is_refused(rng):
    case = Case(rng)
    weight, bias = case.leaves[2:]
    for call, kind, message in (
            (lambda: ops.instance_norm(weight, weight, bias), TypeError,
             "InstanceNorm: the input is Tensor, expected a SparseTensor: .* use LayerNorm"),
            (lambda: ops.group_norm(np.ones((2, 6)), 2, weight, bias), TypeError, "GroupNorm: the input is ndarray"),
            (lambda: ops.layer_norm(np.ones((2, 6)), weight, bias), TypeError, "LayerNorm: the input is ndarray"),
            (lambda: ops.layer_norm(sn.Tensor(np.ones(6)), weight, bias), ValueError,
             r"LayerNorm: x has shape \(6,\), expected \(B, C\)"),
            (lambda: ops.group_norm(case.x, 4, weight, bias), ValueError,
             "GroupNorm: x has 6 channels, groups is 4: expected a number that divides"),
            (lambda: ops.group_norm(case.x, 2, weight, bias, statistics="cells"), ValueError,
             "GroupNorm: statistics is 'cells', expected one of sites, grid"),
            (lambda: ops.instance_norm(case.x, sn.Tensor(np.ones(2)), bias), ValueError,
             "InstanceNorm: x has 6 channels, weight has shape"),
            (lambda: ops.layer_norm(case.x.to(dtype="float32"), weight, bias), TypeError,
             "LayerNorm: weight is float64, x is float32"),
            (lambda: sn.nn.GroupNorm(4, 6), ValueError, "GroupNorm: channels is 6, groups is 4: expected a number"),
            (lambda: sn.nn.GroupNorm(2.0, 6), TypeError, "GroupNorm: groups is 2.0, expected a whole number"),
            (lambda: sn.nn.InstanceNorm(6, eps=-1), ValueError, "InstanceNorm: eps is -1, expected a number from 0"),
            (lambda: sn.nn.InstanceNorm(6, statistics="all"), ValueError, "InstanceNorm: statistics is 'all'")):
        with pytest.raises(kind, match=message):
            call()
