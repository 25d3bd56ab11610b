"""Convolution in groups, depthwise included, equals the dense one at every cell, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn, ops
from sparsenet.inspect.page.layers import look_into
from sparsenet.sparse import ConvolutionStep, Geometry

FILTERS = [  # dimension, side, size, stride, padding, dilation
    (1, 9, 3, 2, 1, 1), (2, 8, (2, 3), (1, 2), (1, 0), (2, 1)), (3, 5, 2, 1, 0, 1), (4, 4, 3, 2, 1, 1)]
GROUPS = {  # C_in, C_out, groups
    "depthwise": (4, 4, 4), "depthwise, twice": (4, 8, 4), "narrow": (6, 9, 3), "wide": (18, 20, 2)}
BATCH = 3
each_filter = pytest.mark.parametrize("filter_", FILTERS, ids=lambda one: f"{one[0]}d")
each_groups = pytest.mark.parametrize("channels", GROUPS.values(), ids=GROUPS)
each_background = pytest.mark.parametrize("background", ["shared", "of samples", "zeros", "none"])


class Case:
    """A batch whose second sample is empty, with weights and bias."""

    def __init__(self, rng, dimension, side, size, channels, background):
        c_in, c_out, self.groups = channels
        volume, self.size = int(np.prod(reference.per_axis(size, dimension))), (side,) * dimension
        self.coordinates = reference.random_coordinates(rng, min(11, side**dimension), self.size, BATCH, empty=(1,))
        shapes = [(len(self.coordinates), c_in), (BATCH, c_in) if background == "of samples" else (c_in,),
                  (volume, c_in // self.groups, c_out), (c_out,)]
        self.leaves = [sn.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
        if background in ("zeros", "none"):
            self.leaves[1] = None
        self.given = {"zeros": "zeros", "none": None}.get(background, self.leaves[1])

    def input(self, features, background):
        return sn.SparseTensor(features, self.coordinates, self.size, BATCH, background)

    def run(self, geometry, leaves=None, **options):
        features, background, weight, bias = leaves or self.leaves
        x = self.input(features, self.given if background is None else background)
        return ops.convolution(x, weight, bias, geometry, groups=self.groups, **options)

    def leaf_tensors(self):
        return [leaf for leaf in self.leaves if leaf is not None]


@each_background
@each_groups
@each_filter
def test_equals_the_dense_convolution(filter_, channels, background, rng):
    dimension, side, *axes = filter_
    case = Case(rng, dimension, side, axes[0], channels, background)
    y = case.run(Geometry.make(dimension, *axes))
    features, below, weight, bias = (None if leaf is None else leaf.array for leaf in case.leaves)
    rows = np.zeros((BATCH, channels[0])) if below is None else np.broadcast_to(below, (BATCH, channels[0]))
    grid = np.concatenate([reference.to_grid(features[case.coordinates[:, 0] == b], case.coordinates[
        case.coordinates[:, 0] == b] * ([0] + [1] * dimension), case.size, 1, rows[b]) for b in range(BATCH)])
    expected = np.concatenate([reference.grouped_convolution(grid[b:b + 1], weight, bias, case.groups, *axes,
                                                             background=rows[b]) for b in range(BATCH)])
    gradient = rng.standard_normal(expected.shape)
    if background == "none":  # inactive cells give nothing, so those of the output are not the dense layer's
        active = y.with_features(y.features, sn.Tensor(np.zeros(channels[1]))).to_dense().numpy() != 0
        reference.assert_close(y.features, reference.from_grid(expected, y.coordinates))
        gradient *= active
        y.features.backward(reference.from_grid(gradient, y.coordinates))
    else:
        reference.assert_close(y.to_dense(), expected)
        y.to_dense().backward(gradient)
    back = [reference.grouped_convolution_backward(gradient[b:b + 1], grid[b:b + 1], weight, case.groups, *axes,
                                                   background=rows[b]) for b in range(BATCH)]
    to_grid = np.concatenate([part[0] for part in back])
    reference.assert_close(case.leaves[0].grad, reference.from_grid(to_grid, case.coordinates), "features")
    reference.assert_close(case.leaves[2].grad, sum(part[1] for part in back), "weight")
    reference.assert_close(case.leaves[3].grad, sum(part[2] for part in back), "bias")
    if below is not None:
        active = reference.occupancy(case.coordinates, case.size, BATCH)[:, None]
        of_samples = np.where(active, 0, to_grid).reshape(BATCH, channels[0], -1).sum(axis=2)
        of_samples += [part[3] for part in back]
        reference.assert_close(case.leaves[1].grad, of_samples if below.ndim == 2 else of_samples.sum(axis=0),
                               "background")


@each_background
@each_groups
def test_submanifold_equals_the_dense_convolution_at_the_sites(channels, background, rng):
    case = Case(rng, 2, 5, 3, channels, background)
    geometry = Geometry.make_submanifold(2, 3)
    y = case.run(geometry)
    for b in (0, 2):
        own = case.coordinates[:, 0] == b
        cells = case.coordinates[own] * [0, 1, 1]
        below = np.zeros(channels[0]) if case.leaves[1] is None else case.leaves[1].array.reshape(-1, channels[0])[
            b if background == "of samples" else 0]
        grid = reference.to_grid(case.leaves[0].array[own], cells, case.size, 1, below)
        dense = reference.grouped_convolution(grid, *(leaf.array for leaf in case.leaves[2:]), case.groups, 3, 1, 1,
                                              background=below)
        rows = y.coordinates[:, 0] == b
        reference.assert_close(y.features.numpy()[rows], reference.from_grid(dense, y.coordinates[rows] * [0, 1, 1]))

    def function(*leaves):
        leaves = list(leaves)
        y = case.run(geometry, leaves if len(leaves) == 4 else [leaves[0], None, *leaves[1:]])
        return y.features, *([] if y.background is None else [y.background])

    assert sn.gradcheck(function, case.leaf_tensors())


@each_groups
@pytest.mark.parametrize("layer", ["plain", "submanifold"])
def test_in_evaluation_a_sample_has_the_same_bits_in_any_batch(layer, channels, rng):
    c_in, c_out, groups = 2 * channels[0], 2 * channels[1], channels[2] * (2 if channels[2] > 2 else 1)
    build = nn.SparseConv if layer == "plain" else nn.SubmanifoldConv
    net = build(c_in, c_out, 3, groups=groups, dimension=2, rng=0).eval()
    coordinates = reference.random_coordinates(rng, 60, (9, 9), 4, empty=(1,))
    features = rng.standard_normal((60, c_in)).astype(np.float32)
    below = rng.standard_normal((4, c_in)).astype(np.float32)
    whole = net(sn.SparseTensor(features, coordinates, (9, 9), 4, below))
    for b in range(4):
        own = coordinates[:, 0] == b
        lone = net(sn.SparseTensor(features[own], coordinates[own] * [0, 1, 1], (9, 9), 1, below[[b]]))
        assert lone.features.numpy().tobytes() == whole.features.numpy()[whole.coordinates[:, 0] == b].tobytes()
        assert lone.background.numpy().tobytes() == whole.background.numpy()[b].tobytes()


def test_weights_are_those_of_pytorch_group_by_group(rng):
    """PyTorch stores (C_out, C_in / groups, *size), output channels group by group: the same transposition as without
    groups."""
    theirs, x = rng.standard_normal((6, 2, 3, 3)), rng.standard_normal((1, 4, 5, 5))
    layer = nn.SparseConv(4, 6, 3, groups=2, bias=False, dimension=2).to(dtype="float64")
    layer.weight.array = np.ascontiguousarray(theirs.transpose(2, 3, 1, 0).reshape(9, 2, 6))
    expected = np.zeros((1, 6, 3, 3))
    for o, i, dx, dy in np.ndindex(theirs.shape):
        expected[0, o] += theirs[o, i, dx, dy] * x[0, 2 * (o // 3) + i, dx:dx + 3, dy:dy + 3]
    reference.assert_close(layer(sn.SparseTensor.from_dense(x)).to_dense(), expected)


def test_first_weights_have_the_bound_of_their_group():
    dense, grouped = nn.SparseConv(4, 6, 3, rng=5), nn.SparseConv(8, 12, 3, groups=2, rng=5)
    assert grouped.weight.shape == (27, 4, 12) and grouped.weight_bound() == dense.weight_bound()
    assert np.abs(grouped.weight.array).max() <= grouped.weight_bound()
    assert repr(grouped) == "SparseConv(8 -> 12, 3/1, 2 groups)"
    assert repr(nn.SubmanifoldConv(4, 4, 3, 1, 4, False)) == (
        "SubmanifoldConv(4 -> 4, 3/1 submanifold, 4 groups, no bias)")


def test_a_network_counts_the_multiply_adds_of_its_groups_and_prepares_their_views(rng):
    net = sn.SparseNetwork(2, 4).add_submanifold(4, 3, groups=4).add_leaky_relu(0.1)
    net.add_convolution(6, 2, 2, groups=2, bias=False).add_max_pool(2)
    assert net.geometries()[:2] == [ConvolutionStep(Geometry.make_submanifold(2, 3), (4, 4), groups=4),
                                    ConvolutionStep(Geometry.make(2, 2, 2), (4, 6), groups=2)]
    coordinates = reference.random_coordinates(rng, 20, (8, 8), 1)
    x = sn.SparseTensor(rng.standard_normal((20, 4)).astype(np.float32), coordinates, (8, 8), 1)
    first, _, second, _ = net.activations(x)
    assert first.multiply_adds == first.pairs * 4 and second.multiply_adds == second.pairs * 2 * 6
    assert f"{second.multiply_adds:,}" in net.summary(x)
    assert second.dense_multiply_adds == 16 * 4 * 2 * 6
    sites = sn.sparse.ActiveSites(coordinates, (8, 8), 1)
    sn.sparse.prepare(sites, net.geometries(), backward=True)
    made = vars(sites.rulebook(Geometry.make_submanifold(2, 3)))
    assert "neighbours" in made and "_pairs" not in made


@pytest.mark.parametrize("groups", [4, 2])
def test_the_page_shows_what_each_offset_adds_in_its_group(groups, rng):
    coordinates = reference.random_coordinates(rng, 30, (6, 6, 6), 1)
    x = sn.SparseTensor(rng.standard_normal((30, 4)).astype(np.float32), coordinates, (6, 6, 6), 1)
    net = sn.SparseNetwork(3, 4).add_submanifold(8, 3, groups=groups).add_linear(2)
    layer = look_into(net, x).layers[1]
    n, width = layer.neighbours[5, 13], 8 // groups
    rows, weight = x.features.numpy()[n], net.layers[0].weight.numpy()[13]
    added = [rows[o // width * (4 // groups):][:4 // groups] @ weight[:, o] for o in range(8)]
    np.testing.assert_allclose(layer.shares[5, 13], np.linalg.norm(added), rtol=1e-5)


def test_kinds_of_layers_take_groups():
    from sparsenet.nn.layer_list import network_of

    net = network_of([{"kind": "convolution", "channels": 8, "size": 3},
                      {"kind": "submanifold", "channels": 8, "size": 3, "groups": 8}])
    assert net.layers[1].groups == 8
    with pytest.raises(ValueError, match=r"layer 2 \(submanifold\): .*8 to 8 channels in 3 groups"):
        network_of([{"kind": "convolution", "channels": 8, "size": 3},
                    {"kind": "submanifold", "channels": 8, "size": 3, "groups": 3}])


def test_what_does_not_fit_is_refused(rng):
    case, geometry = Case(rng, 2, 5, 3, (4, 6, 2), "shared"), Geometry.make(2, 3)
    for groups, message in ((1, "features have 4 channels, the weights expect 2"),
                            (3, "features have 4 channels, the weights expect 6"),
                            (4, "the weights give 6 channels, groups is 4"), (0, "groups is 0")):
        case.groups = groups
        with pytest.raises(ValueError, match=f"SparseConv: .*{message}"):
            case.run(geometry)
    for arguments, kind, message in (((4, 6, 3, 1, 0, 1, 4), ValueError, "4 to 6 channels in 4 groups"),
                                     ((4, 6, 3, 1, 0, 1, 0), ValueError, "groups is 0, expected at least 1"),
                                     ((4, 6, 3, 1, 0, 1, 2.0), TypeError, "groups is 2.0, expected a whole number"),
                                     ((4, 6, 3, 1, 0, 1, True), TypeError, "groups is True, expected a whole number")):
        with pytest.raises(kind, match=f"SparseConv: {message}"):
            nn.SparseConv(*arguments)
