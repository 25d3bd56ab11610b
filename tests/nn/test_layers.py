"""Each layer's values against the dense oracle, its gradients against finite differences, its error messages."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn, ops

SIZES = {1: (9,), 2: (6, 7), 3: (5, 4, 5), 4: (4, 3, 4, 3)}
DIMENSIONS = pytest.mark.parametrize("dimension", [1, 2, 3, 4], ids=lambda d: f"{d}d")


def sparse(rng, dimension, dtype=np.float64, channels=2, count=12):
    """A batch of 3 whose middle sample is empty, with a background; everything wants a gradient."""
    coordinates = reference.random_coordinates(rng, count, SIZES[dimension], 3, empty=(1,))
    background = sn.Tensor(rng.standard_normal(channels).astype(dtype), requires_grad=True)
    features = rng.standard_normal((count, channels)).astype(dtype)
    x = sn.SparseTensor(features, coordinates, SIZES[dimension], 3, background)
    x.features.requires_grad = True
    return x


def grid_of(x):
    return reference.to_grid(x.features.array, x.coordinates, x.spatial_size, x.batch_size, x.background.array)


def with_random_bias(layer, rng, dtype):
    layer.bias.array = rng.standard_normal(layer.bias.shape).astype("f4")
    return layer.to(dtype=dtype)


def check_against_grid(layer, x, expected, backward, rng):
    """The layer's whole grid and all its gradients; `backward` is the oracle's, of a grid gradient."""
    y = layer(x)
    reference.assert_close(y.to_dense(), expected)
    gradient = rng.standard_normal(expected.shape).astype(x.dtype)
    y.to_dense().backward(gradient)
    grid_gradient, weight, bias, padding = backward(gradient)
    reference.assert_close(x.features.grad, reference.from_grid(grid_gradient, x.coordinates), "features")
    background = reference.background_gradient(grid_gradient, x.coordinates) + padding
    reference.assert_close(x.background.grad, background, "background")
    if weight is not None:
        reference.assert_close(layer.weight.grad, weight, "weight")
        reference.assert_close(layer.bias.grad, bias, "bias")


@DIMENSIONS
@pytest.mark.parametrize("options", [{"size": 2}, {"size": 2, "stride": 2}, {"size": 3, "stride": 2, "padding": 1},
                                     {"size": 2, "dilation": 2}], ids=str)
def test_sparse_conv_is_the_dense_convolution(dimension, options, dtype, rng):
    x = sparse(rng, dimension, dtype)
    settings = {("kernel_size" if name == "size" else name): value for name, value in options.items()}
    layer = with_random_bias(nn.SparseConv(2, 3, **settings, dimension=dimension, rng=rng), rng, dtype)
    assert layer.weight.shape == (options["size"] ** dimension, 2, 3) and layer.bias.shape == (3,)
    arrays = (grid_of(x), layer.weight.array)
    expected = reference.convolution(*arrays, layer.bias.array, **options, background=x.background.array)
    check_against_grid(layer, x, expected, lambda gradient: reference.convolution_backward(
        gradient, *arrays, **options, background=x.background.array), rng)


@DIMENSIONS
def test_sparse_max_pool_is_the_dense_pooling(dimension, dtype, rng):
    x = sparse(rng, dimension, dtype)
    layer = nn.SparseMaxPool(3, 2, dimension=dimension)
    expected, chosen = reference.max_pool(grid_of(x), 3, 2)
    check_against_grid(layer, x, expected, lambda gradient: (
        reference.max_pool_backward(gradient, chosen, x.spatial_size, 3, 2), None, None, 0), rng)


@DIMENSIONS
def test_leaky_relu_acts_on_sites_and_background(dimension, dtype, rng):
    x = sparse(rng, dimension, dtype)
    grid = grid_of(x)
    check_against_grid(nn.LeakyReLU(0.33), x, reference.leaky_relu(grid, 0.33), lambda gradient: (
        reference.leaky_relu_backward(gradient, grid, 0.33), None, None, 0), rng)


@DIMENSIONS
def test_submanifold_conv_is_the_padded_convolution_at_its_input_s_sites(dimension, dtype, rng):
    x = sparse(rng, dimension, dtype)
    layer = with_random_bias(nn.SubmanifoldConv(2, 3, 3, dimension=dimension, rng=rng), rng, dtype)
    y = layer(x)
    assert y.sites is x.sites
    expected = reference.convolution(grid_of(x), layer.weight.array, layer.bias.array, 3, padding=1,
                                     background=x.background.array)
    reference.assert_close(y.features, reference.from_grid(expected, x.coordinates))
    constant = x.background.array @ layer.weight.array.sum(axis=0) + layer.bias.array
    reference.assert_close(y.background, constant)


LAYERS = {
    "SparseConv": lambda d: nn.SparseConv(2, 3, 2, dimension=d, rng=1),
    "SparseConv, stride, padding, dilation": lambda d: nn.SparseConv(2, 3, 2, 2, 1, 2, dimension=d, rng=1),
    "SparseConv, no bias": lambda d: nn.SparseConv(2, 3, 2, bias=False, dimension=d, rng=1),
    "SubmanifoldConv": lambda d: nn.SubmanifoldConv(2, 3, 3, dimension=d, rng=1),
    "SparseMaxPool": lambda d: nn.SparseMaxPool(2, dimension=d),
    "SparseMaxPool, padding": lambda d: nn.SparseMaxPool(3, 2, 1, dimension=d),
    "SparseAvgPool": lambda d: nn.SparseAvgPool(2, 1, dimension=d),
    "SparseAvgPool, padding": lambda d: nn.SparseAvgPool(3, 2, 1, dimension=d),
    "SparseSumPool": lambda d: nn.SparseSumPool(2, dimension=d),
    "Upsample": lambda d: nn.Upsample(2),
    "Upsample, cut": lambda d: nn.Upsample(2, 9),
    "Linear": lambda d: nn.Linear(2, 3, rng=1),
    "LeakyReLU": lambda d: nn.LeakyReLU(0.2),
    "ToDense": lambda d: nn.ToDense(),
    "GlobalPool, mean": lambda d: nn.GlobalPool("mean"),
    "GlobalPool, max": lambda d: nn.GlobalPool("max"),
    "GlobalPool, sum": lambda d: nn.GlobalPool("sum"),
    "GlobalPool and Linear": lambda d: nn.Sequential(nn.GlobalPool(), nn.Linear(2, 4, rng=1)),
    "several": lambda d: nn.Sequential(nn.SparseConv(2, 3, 2, dimension=d, rng=1), nn.LeakyReLU(0.3),
                                       nn.SparseMaxPool(2, dimension=d), nn.GlobalPool("max")),
}


@DIMENSIONS
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_inputs_background_and_parameters(name, dimension, rng):
    layer = LAYERS[name](dimension).to(dtype="float64")
    assert sn.gradcheck(layer, [sparse(rng, dimension)], parameters=dict(layer.named_parameters()))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_takes_a_batch_without_sites(name):
    layer = LAYERS[name](2).to(dtype="float64")
    background = sn.Tensor(np.array([0.5, -0.25]), requires_grad=True)
    x = sn.SparseTensor(np.zeros((0, 2)), np.zeros((0, 3), np.int32), SIZES[2], 2, background)
    assert sn.gradcheck(layer, [x], parameters=dict(layer.named_parameters()))


class TestLinear:
    def test_numbers_and_gradients(self, dtype, rng):
        layer = with_random_bias(nn.Linear(3, 2, rng=rng), rng, dtype)
        x = sn.Tensor(rng.standard_normal((5, 3)).astype(dtype), requires_grad=True)
        y = layer(x)
        reference.assert_close(y, reference.linear(x.array, layer.weight.array, layer.bias.array))
        gradient = rng.standard_normal((5, 2)).astype(dtype)
        y.backward(gradient)
        expected = reference.linear_backward(gradient, x.array, layer.weight.array)
        for tensor, array in zip((x, layer.weight, layer.bias), expected, strict=True):
            reference.assert_close(tensor.grad, array)

    def test_keeps_the_sites_of_a_sparse_tensor(self, rng):
        layer, x = with_random_bias(nn.Linear(2, 3, rng=rng), rng, "float64"), sparse(rng, 2)
        y = layer(x)
        assert y.sites is x.sites
        reference.assert_close(y.features, reference.linear(x.features.array, layer.weight.array, layer.bias.array))
        reference.assert_close(y.background, reference.linear(x.background.array, layer.weight.array, layer.bias.array))


class TestDropout:
    def test_does_nothing_in_evaluation_mode_or_with_p_0(self, rng):
        x = sparse(rng, 2)
        assert nn.Dropout(0.5).eval()(x) is x
        assert nn.Dropout(0.0)(x) is x

    def test_a_sample_s_sites_and_its_background_share_a_mask(self, rng):
        x = sparse(rng, 2, channels=8)
        ones = x.with_features(sn.Tensor(np.ones((12, 8))), sn.Tensor(np.ones(8)))
        grid = nn.Dropout(0.5, rng=3)(ones).to_dense().numpy()
        assert set(np.unique(grid)) == {0.0, 2.0}
        assert (grid == grid[:, :, :1, :1]).all()
        assert not (grid[0] == grid[2]).all()

    def test_draws_anew_at_each_call_and_the_same_for_the_same_seed(self, rng):
        x = sn.Tensor(rng.standard_normal((4, 16)))
        first, second = nn.Dropout(0.5, rng=3), nn.Dropout(0.5, rng=3)
        masks = [first(x).numpy(), first(x).numpy(), second(x).numpy()]
        assert (masks[0] == masks[2]).all() and not (masks[0] == masks[1]).all()

    def test_reseed_keys_the_masks_by_the_step(self, rng):
        x = sn.Tensor(rng.standard_normal((4, 16)))
        net = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
        outputs = {}
        for step in (0, 1, 0):
            net.reseed(7, 2, step)
            outputs.setdefault(step, []).append(net(x).numpy())
        assert (outputs[0][0] == outputs[0][1]).all() and not (outputs[0][0] == outputs[1][0]).all()
        net.reseed(7)
        assert not (net[0](x).numpy() == net[1](x).numpy()).all()

    def test_gradients(self, rng):
        def function(x):
            return nn.Sequential(nn.Dropout(0.5, rng=3), nn.SparseConv(2, 3, 2, dimension=2, rng=1),
                                 nn.LeakyReLU(0.3), nn.SparseMaxPool(2, dimension=2), nn.GlobalPool("max")
                                 ).to(dtype="float64")(x)

        assert sn.gradcheck(function, [sparse(rng, 2)])

    def test_refuses_a_probability_out_of_range(self):
        with pytest.raises(ValueError, match="Dropout: p is 1, expected at least 0 and below 1"):
            nn.Dropout(1)


def test_a_kernel_size_of_several_numbers_sets_the_dimension():
    assert nn.SparseConv(1, 2, (2, 3)).weight.shape == (6, 1, 2)
    assert nn.SubmanifoldConv(1, 2, (3, 1)).weight.shape == (3, 1, 2)
    assert nn.SparseMaxPool((2, 2)).geometry.stride == (2, 2)
    assert nn.SparseConv(1, 2, np.array([2, 2])).geometry == nn.SparseConv(1, 2, (2, 2)).geometry
    assert nn.SparseMaxPool(np.array([2, 3])).geometry.stride == (2, 3)
    assert nn.SparseAvgPool((2, 3)).geometry == nn.SparseSumPool([2, 3]).geometry == nn.SparseMaxPool((2, 3)).geometry
    assert repr(nn.SparseAvgPool(3, 2, 1)) == "SparseAvgPool(3/2 padding 1)"
    assert repr(nn.Upsample(2)) == "Upsample(x 2)" and repr(nn.Upsample((1, 2), 7)) == "Upsample(x 1x2 to 7)"


def test_first_weights_keep_their_bound_and_biases_are_zero():
    layer = nn.SparseConv(16, 32, 2, rng=0)
    bound = np.sqrt(6 / (16 * 8 + 32 * 4))
    assert 0.99 * bound < np.abs(layer.weight.array).max() <= bound
    assert not layer.bias.array.any() and layer.weight.requires_grad and layer.bias.requires_grad
    assert np.abs(nn.Linear(10, 90, rng=0).weight.array).max() == pytest.approx(np.sqrt(6 / 100), rel=0.01)


def test_rng_makes_layers_repeatable():
    arrays = [nn.SparseConv(2, 3, 2, rng=r).weight.array.tolist() for r in (5, 5, np.random.default_rng(5), 6, None)]
    assert arrays[0] == arrays[1] == arrays[2]
    assert arrays[0] != arrays[3] != arrays[4]


def test_without_background_layers_skip_inactive_cells(rng):
    x = sparse(rng, 2).with_features(sn.Tensor(rng.standard_normal((12, 2))), None)
    layer = nn.SparseConv(2, 3, 2, dimension=2, rng=1).to(dtype="float64")
    y = nn.LeakyReLU()(nn.SparseMaxPool(2, dimension=2)(layer(x)))
    assert y.background is None
    sn.gradcheck(lambda f: ops.global_pool(nn.SparseMaxPool(2, dimension=2)(layer(x.with_features(f, None)))),
                 [sn.Tensor(x.features.array, requires_grad=True)])


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="SparseConv: in_channels is 0, expected at least 1"):
        nn.SparseConv(0, 3, 2)
    with pytest.raises(TypeError, match="SparseConv: out_channels is 4.0, expected a whole number"):
        nn.SparseConv(1, 4.0, 2)
    with pytest.raises(TypeError, match="Linear: in_features is '3', expected a whole number"):
        nn.Linear("3", 4)
    with pytest.raises(ValueError, match="SubmanifoldConv: kernel_size is .*expected odd"):
        nn.SubmanifoldConv(1, 3, 2)
    with pytest.raises(ValueError, match="stride is 0"):
        nn.SparseMaxPool(2, 0)
    with pytest.raises(ValueError, match="GlobalPool: mode is 'median', expected one of mean, max, sum"):
        nn.GlobalPool("median")


def test_wrong_channels_are_named(rng):
    with pytest.raises(ValueError, match="SparseConv: features have 2 channels, the weights expect 1: build the "
                                         "layer with in_channels=2"):
        nn.SparseConv(1, 3, 2, dimension=2)(sparse(rng, 2, np.float32))
