"""The transposed convolution equals the dense one in every cell, on a zero background."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import SparseTensor, Tensor, gradcheck, nn, no_grad
from sparsenet.sparse import ActiveSites, Spacing, prepare
from sparsenet.sparse.spacing import spaced

CASES = [  # dimension, side, size, stride, padding, dilation, output padding
    (1, 7, 3, 2, 1, 1, 1),
    (1, 5, 2, 1, 0, 3, 0),
    (2, 5, (2, 3), (1, 2), (1, 0), (2, 1), (0, 1)),
    (2, 4, 2, 3, 0, 1, 0),  # cells under no window
    (3, 4, 3, 2, 0, 1, 0),
    (3, 4, 2, 2, 0, 1, 0),
    (3, 3, 3, 1, 1, 1, 0),
    (4, 2, 2, 2, 1, 1, 1),
]


def layer_of(case, c_in=3, c_out=2, bias=True, groups=1, dtype="float64") -> nn.TransposedConv:
    dimension, _, size, stride, padding, dilation, more = case
    layer = nn.TransposedConv(c_in, c_out, size, stride, padding, more, groups, bias, dilation, dimension, rng=1)
    layer = layer.to(dtype=dtype)
    if bias:
        layer.bias.array = np.random.default_rng(2).standard_normal(c_out).astype(dtype)
    return layer


def features_on(case, channels=3, background="zeros", dtype=np.float64) -> SparseTensor:
    rng, size = np.random.default_rng(3), (case[1],) * case[0]
    coordinates = reference.random_coordinates(rng, min(8, case[1] ** case[0]), size, 3, empty=(1,))
    return SparseTensor(rng.standard_normal((len(coordinates), channels)).astype(dtype), coordinates, size, 3,
                        background)


def dense(x, layer, case) -> np.ndarray:
    """(B, C_out, *spatial) float64"""
    _, _, size, stride, padding, dilation, more = case
    grid = reference.to_grid(x.features.array.astype(np.float64), x.coordinates, x.spatial_size, 3)
    bias = None if layer.bias is None else layer.bias.numpy()
    filter_ = layer.groups, size, stride, padding, dilation, more
    return reference.transposed_convolution(grid, layer.weight.numpy(), bias, *filter_)


@pytest.mark.parametrize(("bias", "groups"), [(True, 1), (False, 1), (True, 2)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_dense_one_in_every_cell(case, bias, groups, dtype):
    x = features_on(case, 2 * groups, dtype=dtype)
    layer = layer_of(case, 2 * groups, 4, bias, groups, dtype)
    for training in (True, False):
        y = layer.train(training)(x)
        reference.assert_close(y.to_dense(), dense(x, layer, case))
    occupied = reference.to_grid(np.ones((len(x), 1)), x.coordinates, x.spatial_size, 3)
    ones = layer_of(case, 1, 1, bias=False)
    ones.weight.array[:] = 1
    reached = dense(SparseTensor(np.ones((len(x), 1)), x.coordinates, x.spatial_size, 3), ones, case)[:, 0] > 0
    assert occupied.sum() == len(x)
    np.testing.assert_array_equal(reference.occupancy(y.coordinates, y.spatial_size, 3), reached)
    np.testing.assert_array_equal(y.background.array, layer.bias.array if bias else np.zeros(4))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_by_differences(case, bias):
    x, layer = features_on(case), layer_of(case, bias=bias)

    def function(features, weight, *rest):
        return sn.ops.transposed_convolution(x.with_features(features, x.background), weight, rest[0] if rest else None,
                                             layer.filter, layer.spacing).to_dense()

    features = Tensor(x.features.array, requires_grad=True)
    assert gradcheck(function, [features, layer.weight, *([layer.bias] if bias else [])])


@pytest.mark.parametrize("case", CASES[:6:2], ids=str)
def test_without_a_background_the_bias_acts_on_the_active_sites(case):
    x, layer = features_on(case, background=None), layer_of(case)
    y, zero = layer(x), layer(features_on(case))
    assert y.background is None
    np.testing.assert_array_equal(y.features.numpy(), zero.features.numpy())
    np.testing.assert_array_equal(y.coordinates, zero.coordinates)


def test_a_background_that_is_not_zero_is_refused_and_the_exact_way_named():
    x, layer = features_on(CASES[4]), layer_of(CASES[4])
    for background in (np.array([0, 0, 1.0]), np.eye(3)):
        with pytest.raises(ValueError, match="TransposedConv: the input's background is not zero.*: use Upsample and a "
                                             "SparseConv"):
            layer(x.with_features(x.features, Tensor(background)))
    zeros = Tensor(np.zeros((3, 3)))
    np.testing.assert_array_equal(layer(x.with_features(x.features, zeros)).features.numpy(),
                                  layer(x).features.numpy())


def test_no_site_at_all():
    layer = layer_of(CASES[4])
    y = layer(SparseTensor(np.zeros((0, 3)), np.zeros((0, 4), np.int32), (4, 4, 4), 2))
    assert y.features.shape == (0, 2) and y.spatial_size == (9, 9, 9)
    y.features.sum().backward()
    assert not layer.weight.grad.any() and not layer.bias.grad.any()


@pytest.mark.parametrize("stride", [1, 2])
def test_sites_lie_apart_in_their_order_and_are_kept(stride):
    rng = np.random.default_rng(0)
    sites = ActiveSites(reference.random_coordinates(rng, 9, (4, 5), 2), (4, 5), 2)
    apart = spaced(sites, Spacing((stride, 1), (0, stride - 1)))
    np.testing.assert_array_equal(apart.coordinates, sites.coordinates * [1, stride, 1])
    assert apart.spatial_size == (3 * stride + 1, 5 + stride - 1)
    assert apart is spaced(sites, Spacing((stride, 1), (0, stride - 1)))
    assert (apart is sites) == (stride == 1)
    gone = weakref.ref(sites)
    del sites, apart
    gc.collect(0)
    assert gone() is None


def test_the_loader_s_preparation_leaves_no_rulebook_to_make(monkeypatch):
    net = sn.SparseNetwork(2, 2, seed=1).add_convolution(4, 2, 2, bias=False).add_relu()
    net.add_transposed_convolution(3, 3, 2, output_padding=1, bias=False).add_submanifold(2, 3)
    rng = np.random.default_rng(0)
    x = SparseTensor(rng.standard_normal((12, 2)).astype(np.float32),
                     reference.random_coordinates(rng, 12, (8, 8), 2), (8, 8), 2)
    prepare(x.sites, net.geometries(), backward=True)
    made = []
    monkeypatch.setattr("sparsenet.sparse.rulebook.launch", lambda name, *arguments: made.append(name))
    net(x).features.sum().backward()
    assert not made


def test_in_a_network():
    net = sn.SparseNetwork(2, 1, seed=1).add_convolution(4, 2, 2, bias=False).add_leaky_relu(0.1)
    net.add_transposed_convolution(3, 2, 2, groups=1)
    assert net.names()[-1] == "transposed_convolution1" and "4 -> 3, 2/2" in repr(net)
    x = SparseTensor(np.ones((2, 1), np.float32), [[0, 0, 0], [0, 4, 5]], (6, 6), 1)
    record = net.activations(x)[-1]
    assert record.spatial_size == (6, 6) and record.pairs == 8
    assert record.multiply_adds == 8 * 12 and record.dense_multiply_adds == 9 * 4 * 12
    with no_grad():
        found = net.eval()(x)
    loaded = sn.SparseNetwork(2, 1, seed=2).add_convolution(4, 2, 2, bias=False).add_leaky_relu(0.1)
    loaded.add_transposed_convolution(3, 2, 2)
    loaded.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(loaded.eval()(x).features.numpy(), found.features.numpy())
    with pytest.raises(TypeError, match="InverseConv: layer is TransposedConv, expected a convolution or pooling"):
        nn.InverseConv(3, 2, net.layers[-1])
    with pytest.raises(ValueError, match="the network has a TransposedConv"):
        net.field_for(1)


def test_a_unet_of_transposed_convolutions_without_a_background():
    """Down and up again; a union joins the sites that both ways lead to."""
    down, up = nn.SparseConv(1, 4, 2, 2, dimension=2, rng=0), nn.TransposedConv(4, 2, 2, 2, dimension=2, rng=1)
    x = SparseTensor(np.ones((3, 1), np.float32), [[0, 0, 0], [0, 3, 1], [0, 5, 5]], (6, 6), 1, None)
    joined = sn.ops.concatenate(up(down(x)), x)
    assert len(joined) == 12 and joined.channels == 3
    joined.features.sum().backward()
    assert np.abs(down.weight.grad).max() > 0 and np.abs(up.weight.grad).max() > 0


def test_what_does_not_fit_is_refused():
    for arguments, words in [
            ({"padding": 3}, r"padding is \(3, 3, 3\), expected at most \(2, 2, 2\)"),
            ({"stride": 2, "output_padding": 2}, r"output_padding is \(2, 2, 2\), expected less than the stride"),
            ({"groups": 2}, "3 to 2 channels in 2 groups"),
            ({"kernel_size": 0}, "kernel_size is 0")]:
        with pytest.raises(ValueError, match=words):
            nn.TransposedConv(3, 2, **{"kernel_size": 3} | arguments)
    layer = layer_of(CASES[4])
    with pytest.raises(TypeError, match="TransposedConv: the input is ndarray, expected a SparseTensor"):
        layer(np.ones((2, 3)))
    with pytest.raises(ValueError, match="TransposedConv: features have 2 channels, the weights expect 3"):
        layer(features_on(CASES[4], 2))
    with pytest.raises(TypeError, match="TransposedConv: features are float32"):
        layer(features_on(CASES[4], dtype=np.float32))
    with pytest.raises(ValueError, match="TransposedConv: the layer has 3 dimensions"):
        layer(features_on(CASES[2]))
    wide = SparseTensor(np.ones((1, 1)), [[0, 0]], (2**30,), 1)
    with pytest.raises(OverflowError, match="TransposedConv: sides are"):
        nn.TransposedConv(1, 1, 2, 4, dimension=1).to(dtype="float64")(wide)
