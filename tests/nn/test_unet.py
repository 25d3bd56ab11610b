"""U-Nets: against dense grids whose cells outside the sites are reset; their order, names, records and lists."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import inspect, nn
from sparsenet.inspect.page.layers import look_into
from sparsenet.inspect.paths import FILTER, NONE, SAME
from sparsenet.nn.layer_list import grids, network_of, normalises_rows

CHANNELS = (3, 4, 5)


def given(rng, side=6, dimension=3, count=30, channels=2, batch=3, background="row", dtype="f8", empty=(1,)):
    size = (side,) * dimension
    cells = reference.random_coordinates(rng, min(count, side**dimension), size, batch, empty=empty)
    background = {"row": rng.standard_normal(channels).astype(dtype),
                  "rows": rng.standard_normal((batch, channels)).astype(dtype)}.get(background, background)
    return sn.SparseTensor(rng.standard_normal((len(cells), channels)).astype(dtype), rng.permutation(cells), size,
                           batch, background)


def network(rng, dimension=3, channels=CHANNELS, dtype="f8", **options):
    """With norms whose parameters and running statistics are not those at the start."""
    net = sn.unet(4, channels=channels, in_channels=2, dimension=dimension, **options).to(dtype=dtype)
    for one in net.modules():
        if isinstance(one, nn.BatchNorm):
            one.weight.array, one.bias.array = (rng.uniform(-1, 1, one.channels).astype(dtype) for _ in range(2))
            one.running_mean.array = rng.uniform(-1, 1, one.channels).astype(dtype)
            one.running_var.array = rng.uniform(0.5, 2, one.channels).astype(dtype)
    return net


class Dense:
    """A network on whole grids: after each layer, cells that are not sites are reset to the background."""

    def __init__(self, x, training):
        self.training = training
        self.mask = reference.to_grid(np.ones((len(x), 1)), x.coordinates, x.spatial_size, x.batch_size) > 0
        self.came_from = []  # masks before the strided convolutions

    def reset(self, grid, background):
        filling = 0 if background is None else np.reshape(background, (-1, grid.shape[1]) + (1,) * (grid.ndim - 2))
        return np.where(self.mask, grid, filling)

    def run(self, layers, grid, background):
        for layer in layers:
            grid, background = getattr(self, layer.kind)(layer, grid, background)
            grid = self.reset(grid, background)
        return grid, background

    def sequential(self, layer, grid, background):
        return self.run(layer.layers, grid, background)

    def convolution(self, layer, grid, background, submanifold=False):
        geometry, weight = layer.geometry, layer.weight.array
        bias = None if layer.bias is None else layer.bias.array
        options = geometry.size, geometry.stride
        if not submanifold:
            self.came_from.append(self.mask)
            ones = np.ones((geometry.volume, 1, 1))
            self.mask = reference.convolution(self.mask.astype(float), ones, None, *options) > 0
        parts = [reference.convolution(grid[b:b + 1], weight, bias, *options, geometry.padding,
                                       background=None if background is None else background[b])
                 for b in range(len(grid))]
        of_cell = None if background is None else background @ weight.sum(axis=0) + (0 if bias is None else bias)
        return np.concatenate(parts), of_cell

    def submanifold(self, layer, grid, background):
        return self.convolution(layer, grid, background, submanifold=True)

    def inverse_convolution(self, layer, grid, background):
        inside = np.where(self.mask, grid, 0)
        self.mask = self.came_from.pop()
        zeros = np.zeros((len(grid), layer.out_channels, *self.mask.shape[2:]))
        result, *_ = reference.convolution_backward(inside, zeros, layer.weight.array.transpose(0, 2, 1),
                                                    layer.geometry.size, layer.geometry.stride)
        return result, None if background is None else np.zeros((len(grid), layer.out_channels))

    def batch_norm(self, layer, grid, background):
        weight, bias, mean, variance = (t.array for t in (layer.weight, layer.bias, layer.running_mean,
                                                          layer.running_var))
        if self.training and self.mask.any():
            _, mean, variance = reference.batch_norm(grid, weight, bias, layer.eps, self.mask)
        scale = weight / np.sqrt(variance + layer.eps)
        shape = (1, -1) + (1,) * (grid.ndim - 2)
        return ((grid - mean.reshape(shape)) * scale.reshape(shape) + bias.reshape(shape),
                None if background is None else (background - mean) * scale + bias)

    def relu(self, layer, grid, background):
        return np.maximum(grid, 0), None if background is None else np.maximum(background, 0)

    def residual(self, layer, grid, background):
        main = self.run(layer.layers, grid, background)
        around = (grid, background)
        if layer.shortcut is not None:
            around = self.run([layer.shortcut], grid, background)
        return main[0] + around[0], None if background is None else main[1] + around[1]

    def skip(self, layer, grid, background):
        inner = self.run(layer.layers, grid, background)
        return (np.concatenate([inner[0], grid], axis=1),
                None if background is None else np.concatenate([inner[1], background], axis=1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dimension", "side", "background"), [
    (1, 13, "row"), (2, 8, "rows"), (2, 7, None), (3, 6, "row"), (3, 4, "zeros"), (4, 4, "row")])
def test_equals_the_dense_network_whose_other_cells_are_reset(dimension, side, background, training, rng):
    x = given(rng, side, dimension, background=background)
    net = network(rng, dimension).train(training)
    grid = reference.to_grid(x.features.array, x.coordinates, x.spatial_size, 3)
    rows = None if x.background is None else np.broadcast_to(x.background.array, (3, 2))
    dense = Dense(x, training)
    expected, of_cell = dense.run(net.layers, dense.reset(grid, rows), rows)
    y = net(x)
    assert y.sites is x.sites and not dense.came_from
    reference.assert_close(y.features, reference.from_grid(expected, y.coordinates))
    if background is not None:
        reference.assert_close(np.broadcast_to(y.background.array, (3, 4)), of_cell)
        reference.assert_close(y.to_dense(), expected)


@pytest.mark.parametrize("background", ["row", "rows", None])
def test_gradients_of_features_background_and_parameters(background, rng):
    x = given(rng, 5, 2, count=14, background=background)
    for tensor in (x.features, x.background):
        if tensor is not None:
            tensor.requires_grad = True
    net = network(rng, 2, channels=(2, 3)).eval()  # in training, running statistics would move between the calls
    assert sn.gradcheck(net, [x], parameters=dict(net.named_parameters()), directions=1)


@pytest.mark.parametrize("background", ["row", None])
def test_no_site_at_all_and_one(background, rng):
    net = network(rng)
    nothing = given(rng, count=0, background=background, empty=())
    y = net(nothing)
    assert y.features.shape == (0, 4) and y.sites is nothing.sites
    y.features.sum().backward()
    one = given(rng, count=1, batch=1, background=background, empty=())
    assert net.eval()(one).features.shape == (1, 4) and np.isfinite(net(one).features.numpy()).all()


def test_a_sample_has_the_same_bits_in_any_batch(rng):
    net, x = network(rng, dtype="f4").eval(), given(rng, 8, count=200, dtype="f4")
    whole = net(x).features.numpy()
    splits = x.sites.batch_splits.tolist()
    for sample in range(3):
        rows = slice(splits[sample], splits[sample + 1])
        cells = x.coordinates[rows] * np.array([0, 1, 1, 1])
        lone = net(sn.SparseTensor(x.features.array[rows], cells, x.spatial_size, 1, x.background))
        assert lone.features.numpy().tobytes() == whole[rows].tobytes()


def test_rows_come_back_in_the_order_in_which_they_were_given(rng):
    x = given(rng, dtype="f4")
    cells = x.in_given_order(x.coordinates)
    assert not np.array_equal(cells, x.coordinates) and np.array_equal(cells[x.permutation], x.coordinates)
    net = network(rng, dtype="f4").eval()
    rows = net(x).features
    moved = x.in_given_order(rows)
    np.testing.assert_array_equal(moved.array[x.permutation], rows.array)
    leaf = sn.Tensor(rng.standard_normal((len(x), 2)), requires_grad=True)
    weights = rng.standard_normal((len(x), 2))
    (x.in_given_order(leaf) * weights).sum().backward()
    np.testing.assert_array_equal(leaf.grad, weights[x.permutation])
    with pytest.raises(ValueError, match=rf"rows have shape \(3,\), expected \({len(x)}, \.\.\.\): one for each site"):
        x.in_given_order(np.zeros(3))


def test_levels_and_blocks_are_as_asked():
    net = sn.unet(7, channels=(4, 6, 8), blocks=2)
    level = ["residual", "relu"] * 2
    assert [layer.kind for layer in net.layers] == [
        "submanifold", "batch_norm", "relu", *level, "skip", *level, "submanifold"]
    middle = net.layers[7]
    assert [layer.kind for layer in middle.layers] == [
        "convolution", "batch_norm", "relu", *level, "skip", *level, "inverse_convolution", "batch_norm", "relu"]
    assert {"skip1.skip1.convolution1.weight", "skip1.residual3.shortcut.0.weight",
            "skip1.inverse_convolution1.weight"} <= set(net.state_dict())
    assert (net.out_channels, nn.residual.channels_behind(middle.layers, 4)) == (7, 4)
    assert sn.unet(channels=(4, 6)).out_channels == 4 and len(sn.unet(channels=(4,)).layers) == 5
    assert net.spatial_sizes(8)[-1] == net.field_for(8) == (8, 8, 8)
    weights = [one.weight.array.tobytes() for one in net.modules() if isinstance(one, nn.SubmanifoldConv)]
    assert len(set(weights)) == len(weights)
    assert sn.unet(7, seed=3, channels=(4, 6)).layers[0].weight.array.tobytes() != net.layers[0].weight.array.tobytes()


@pytest.mark.parametrize(("options", "message"), [
    ({"blocks": 0}, "unet: blocks is 0, expected a whole number, 1 or more"),
    ({"channels": ()}, r"unet: channels is \(\), expected a sequence"),
])
def test_settings_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sn.unet(**options)


def test_a_grid_that_is_too_small_is_refused(rng):
    with pytest.raises(ValueError, match=r"does not fit a grid of \(1, 1, 1\)"):
        network(rng)(given(rng, 2))


def test_what_is_within_is_shown_with_its_work(rng):
    net, x = network(rng, dtype="f4").eval(), given(rng, 8, count=90, dtype="f4")
    records = net.activations(x)
    skip = records[5]
    assert (skip.name, skip.channels, skip.sites) == ("skip1", 6, x.sites)
    parts = {part.name: part for part in skip.parts}
    down, back = parts["skip1.convolution1"], parts["skip1.inverse_convolution1"]
    assert down.pairs == back.pairs == len(x) and back.multiply_adds == len(x) * 4 * 3
    assert back.dense_multiply_adds == 3 * 4 ** 3 * 8 * 4 * 3 and down.dense_multiply_adds == 3 * 4 ** 3 * 8 * 3 * 4
    assert skip.multiply_adds == sum(part.multiply_adds for part in skip.parts) > parts["skip1.skip1"].multiply_adds > 0
    shown = {line.split()[0]: line for line in net.summary(x).splitlines() if line.strip().startswith("skip1.")}
    assert f"{back.multiply_adds:,}" in shown["skip1.inverse_convolution1"] and "skip1.skip1.residual1.0" in shown
    seen = inspect.trace(net, x)
    assert seen["skip1.skip1.residual1.0"].pairs > 0 and seen["skip1"].channels == 6
    assert sum(one.multiply_adds for one in seen) == sum(one.multiply_adds for one in records)


def test_the_page_follows_the_way_down_and_up():
    rng = np.random.default_rng(0)  # weights of which no level is dead
    net, x = network(rng, dtype="f4"), given(rng, 8, batch=1, count=60, dtype="f4", empty=())
    view = look_into(net, x)
    names = [layer.name for layer in view.layers]
    assert names[7:10] == ["residual1.3", "residual1.4", "residual1"] and names[-1] == "submanifold2"
    shown = {layer.name: layer for layer in view.layers}
    assert {layer.relation for layer in view.layers} == {NONE, FILTER, SAME}
    back = shown["skip1.inverse_convolution1"]
    assert back.sites is x.sites and back.neighbours.shape == (60, 8) and shown["skip1"].relation == SAME
    given_rows, weight = shown["skip1.relu3"].features, net.layers[5].layers[-3].weight.numpy()
    assert shown["skip1.relu3"].record.background.any(), "it would count if it were subtracted"
    for row, offset in zip(*np.nonzero(back.neighbours >= 0), strict=True):
        expected = np.linalg.norm(given_rows[back.neighbours[row, offset]] @ weight[offset])
        np.testing.assert_allclose(back.shares[row, offset], expected, rtol=1e-5, atol=1e-6)
    assert all(layer.gradient.any() for layer in view.layers)


def test_it_moves_pickles_saves_and_runs_from_the_middle(rng, tmp_path):
    net, x = network(rng, dtype="f4").eval(), given(rng, dtype="f4")
    expected = net(x).features.numpy()
    assert net.run(net.run(x, 0, 6), 6).features.numpy().tobytes() == expected.tobytes()
    twin = pickle.loads(pickle.dumps(net))
    assert twin(pickle.loads(pickle.dumps(x))).features.numpy().tobytes() == expected.tobytes()
    net.save_weights(tmp_path / "w.h5")
    other = network(rng, dtype="f4", seed=5).eval()
    other.load_weights(tmp_path / "w.h5")
    assert other(x).features.numpy().tobytes() == expected.tobytes()


# ---- Skip ----

def test_a_skip_has_the_channels_of_its_layers_first(rng):
    x = given(rng)
    layer = nn.SubmanifoldConv(2, 3, 3, rng=1).to(dtype="f8")
    y = nn.Skip(layer, nn.ReLU())(x)
    np.testing.assert_array_equal(y.features.array[:, :3], np.maximum(layer(x).features.array, 0))
    np.testing.assert_array_equal(y.features.array[:, 3:], x.features.array)
    assert y.sites is x.sites
    net = sn.SparseNetwork(in_channels=2).add_skip(layer).add_relu()
    assert net.out_channels == 5 and net.add_linear(2).layers[-1].in_features == 5
    with pytest.raises(ValueError, match="add_skip: the network gives a plain Tensor by now"):
        net.add_skip(nn.ReLU())
    with pytest.raises(TypeError, match="Skip: layer 1 is int, expected a Module"):
        nn.Skip(layer, 3)


def test_a_skip_onto_other_sites_has_their_union(rng):
    x = given(rng, background="rows")
    layer = nn.SparseConv(2, 3, 3, padding=1, rng=1).to(dtype="f8")
    dense = np.concatenate([layer(x).to_dense().numpy(), x.to_dense().numpy()], axis=1)
    reference.assert_close(nn.Skip(layer)(x).to_dense(), dense)


def test_listed_it_is_the_same_network(rng):
    def convolved(kind, channels, **settings):
        return [{"kind": kind, "channels": channels, "bias": False, **settings}, "batch_norm", "relu"]

    def block(channels, **settings):
        same = {"kind": "submanifold", "channels": channels, "size": 3, "bias": False}
        return [{"kind": "residual", "layers": [same, "batch_norm", "relu", same, "batch_norm"], **settings}, "relu"]

    narrow = [{"kind": "submanifold", "channels": 4, "size": 1, "bias": False}, "batch_norm"]
    layers = [*convolved("submanifold", 4, size=3), *block(4),
              {"kind": "skip", "layers": [*convolved("convolution", 6, size=2, stride=2), *block(6),
                                          *convolved("inverse_convolution", 4, layer="convolution1")]},
              *block(4, shortcut=narrow), {"kind": "submanifold", "channels": 3, "size": 1}]
    listed, named = network_of(layers, seed=7), sn.unet(3, seed=7, channels=(4, 6))
    assert {name: array.tobytes() for name, array in listed.state_dict().items()} == {
        name: array.tobytes() for name, array in named.state_dict().items()}
    assert grids(listed, (6, 6, 6)) == [(6, 6, 6)] * (len(listed.layers) + 1)


@pytest.mark.parametrize(("layers", "message"), [
    ([{"kind": "skip", "layers": ["global_pool"]}],
     r"layer 1.layers.1 \(global_pool\): it gives one row per sample, and a skip needs sites"),
    ([{"kind": "skip", "layers": []}], r"layer 1 \(skip\): layers is empty, expected at least one layer"),
    ([{"kind": "skip", "layers": [{"kind": "inverse_convolution", "channels": 2, "layer": "convolution1"}]}],
     r"layer 1.layers.1 \(inverse_convolution\): .* expected an earlier convolution or pooling"),
], ids=str)
def test_what_is_wrong_with_a_listed_skip_is_named(layers, message):
    with pytest.raises(ValueError, match=message):
        network_of(layers)


def test_a_skip_must_come_back_to_its_grid():
    net = network_of([{"kind": "skip", "layers": [{"kind": "convolution", "channels": 3, "size": 2, "stride": 2}]}])
    with pytest.raises(ValueError, match=r"layer 1 \(skip\): .* lead to grids of 3x3x3 and 6x6x6: .* back"):
        grids(net, (6, 6, 6))


def test_norms_of_one_cell_are_found_within_skips():
    assert normalises_rows(sn.unet(channels=(2, 3, 4)), (4, 4, 4))
    assert not normalises_rows(sn.unet(channels=(2, 3, 4)), (8, 8, 8))
