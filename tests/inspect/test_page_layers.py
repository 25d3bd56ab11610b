"""The inspector page shows the values that the network computed."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.inspect.page.layers import look_into
from sparsenet.inspect.page.parts import offsets_of
from sparsenet.inspect.paths import ALL, COPY, FILTER, NONE, SAME

CLASSES = ["ball", "box", "bar"]


def shell(side=14, seed=0):
    """One sample of a third of the cells of a box, in a grid of side^3."""
    rng = np.random.default_rng(seed)
    cells = np.argwhere(rng.random((7, 6, 5)) < 0.3) + 3
    features = rng.standard_normal((len(cells), 1)).astype(np.float32)
    return sn.SparseTensor(features, np.insert(cells, 0, 0, axis=1), (side,) * 3, 1)


def network(classes=3):
    return sn.s3dcnn(classes, channels=(4, 6, 8))


def test_each_layer_tells_how_its_rows_come_about():
    x = shell()
    view = look_into(network(), x, CLASSES)
    relations = [layer.relation for layer in view.layers]
    assert relations == [NONE, *[FILTER, SAME, FILTER] * 2, FILTER, SAME, ALL, SAME]
    assert [layer.name for layer in view.layers][:3] == ["input", "convolution1", "leaky_relu1"]
    for before, layer in zip(view.layers, view.layers[1:], strict=False):
        if layer.relation == FILTER:
            book = before.sites.rulebook(layer.record.layer.geometry)
            np.testing.assert_array_equal(layer.neighbours, book.neighbours)
        if layer.relation == SAME and layer.sites is not None:
            assert layer.sites is before.sites


def test_a_residual_block_is_shown_layer_by_layer_along_its_main_way():
    net, x = sn.resnet(3, channels=(3, 4, 5)), shell(16)
    view = look_into(net, x, CLASSES)
    assert [layer.name for layer in view.layers][4:17] == [
        "residual1.0", "residual1.1", "residual1.2", "residual1.3", "residual1.4", "residual1", "relu2", "residual2.0",
        "residual2.1", "residual2.2", "residual2.3", "residual2.4", "residual2"]
    assert [layer.relation for layer in view.layers] == [
        NONE, FILTER, SAME, SAME, *[FILTER, SAME, SAME, FILTER, SAME, SAME, SAME] * 3, ALL, SAME]
    assert [layer.index for layer in view.layers] == list(range(len(view.layers)))
    records = {record.name: record for record in net.eval().activations(x)}
    shown = {layer.name: layer for layer in view.layers}
    np.testing.assert_array_equal(shown["residual2"].features, records["residual2"].features)
    assert all(layer.gradient.any() for layer in view.layers)


def test_a_block_within_a_block_is_on_the_path_with_the_work_of_its_shortcut():
    def same():
        return sn.nn.SubmanifoldConv(2, 2, 3)

    inner = sn.nn.Residual(same(), sn.nn.ReLU(), shortcut=same())
    net = sn.SparseNetwork().add_submanifold(2, 3).add_residual(sn.nn.BatchNorm(2), inner, same()).add_relu()
    view = look_into(net, shell())
    assert [layer.name for layer in view.layers] == [
        "input", "submanifold1", "residual1.0", "residual1.1.0", "residual1.1.1", "residual1.1", "residual1.2",
        "residual1", "relu1"]
    assert [layer.relation for layer in view.layers] == [NONE, FILTER, SAME, FILTER, SAME, SAME, FILTER, SAME, SAME]
    records = {layer.name: layer.record for layer in view.layers[1:]}
    one = records["residual1.2"]
    assert one.multiply_adds == 4 * one.pairs > 0
    assert records["residual1.1"].pairs == 2 * one.pairs and records["residual1"].multiply_adds == 3 * one.multiply_adds
    assert all(layer.gradient.any() for layer in view.layers)


def test_a_composite_that_adds_nothing_is_its_layers():
    net = sn.SparseNetwork().add_convolution(2, 2).add(sn.nn.Sequential(sn.nn.ReLU(), sn.nn.SparseMaxPool(2)))
    view = look_into(net, shell())
    assert [layer.name for layer in view.layers] == ["input", "convolution1", "sequential1.0", "sequential1.1"]


def test_the_gradients_are_those_of_the_predicted_class(rng):
    net, x = network(), shell()
    for parameter in net.parameters():
        parameter.array = rng.standard_normal(parameter.shape).astype(np.float32) / 3
    view = look_into(net, x, CLASSES)
    best = int(net(x).numpy()[0].argmax())
    assert view.classes[0][0] == CLASSES[best] and view.target == f"the logit of class {CLASSES[best]}"
    np.testing.assert_allclose(sum(chance for _, _, chance in view.classes), 1)
    features = sn.Tensor(x.features.array, requires_grad=True)
    net(x.with_features(features, x.background))[:, best].sum().backward()
    np.testing.assert_allclose(view.layers[0].gradient, features.grad, rtol=1e-5, atol=1e-7)
    assert all(layer.gradient.shape == layer.features.shape for layer in view.layers)
    other = look_into(net, x, CLASSES, target=(best + 1) % 3)
    assert other.classes == view.classes and other.layers[-1].gradient.tolist() != view.layers[-1].gradient.tolist()


def test_a_network_without_classes_is_asked_for_the_length_of_its_descriptor():
    view = look_into(network(None), shell())
    assert view.classes == [] and "squared norm" in view.target
    np.testing.assert_array_equal(view.layers[-1].gradient, view.layers[-1].features)


def test_a_network_that_ends_on_a_grid_is_looked_into_as_well():
    net = network()
    del net.layers[3:]
    assert look_into(net, shell(), CLASSES).layers[-1].sites is not None


def test_what_an_offset_adds_to_a_convolution_and_wins_of_a_pooling(rng):
    net = network()
    for parameter in net.parameters():
        parameter.array = rng.standard_normal(parameter.shape).astype(np.float32)
    layers = look_into(net, shell(), CLASSES).layers
    pooled, convolved = layers[3], layers[4]
    weight, background = net.layers[3].weight.numpy(), pooled.record.background
    for m, k in rng.integers(0, convolved.neighbours.shape, (50, 2)):
        n = convolved.neighbours[m, k]
        expected = 0 if n < 0 else np.linalg.norm((pooled.features[n] - background) @ weight[k])
        np.testing.assert_allclose(convolved.shares[m, k], expected, rtol=1e-5, atol=1e-6)
    assert (pooled.shares.sum(axis=1) == pooled.features.shape[1]).all()
    given, background = layers[2].features, layers[2].record.background
    for m in range(0, len(pooled.features), 7):
        window = np.stack([background if n < 0 else given[n] for n in pooled.neighbours[m]])
        assert np.bincount(window.argmax(axis=0), minlength=27).tolist() == pooled.shares[m].tolist()


@pytest.mark.parametrize("background", [True, False])
def test_what_a_cell_adds_to_a_mean_a_sum_and_a_padded_maximum(background, rng):
    net = sn.SparseNetwork().add_linear(3, on_sites=True).add_average_pool(3, 2, 1).add_sum_pool(2)
    net.add_max_pool(3, 2, 1)
    net.layers[0].bias.array = rng.standard_normal(3).astype(np.float32)
    x = shell()
    layers = look_into(net, x if background else x.with_features(x.features, None)).layers
    assert [layer.relation for layer in layers] == [NONE, SAME, FILTER, FILTER, FILTER]
    for layer in layers[2:4]:
        given = layers[layer.index - 1]
        rows = given.features - (given.record.background if background else 0)
        windows = layer.record.rulebook.windows
        cells = np.ones(len(windows)) if layer.index == 3 else (windows > (-2 if background else -1)).sum(axis=1)
        for m, k in np.ndindex(windows.shape):
            n = windows[m, k]
            expected = np.linalg.norm(rows[n]) / cells[m] if n >= 0 else 0
            np.testing.assert_allclose(layer.shares[m, k], expected, rtol=1e-5, atol=1e-6)
    last = layers[4]
    assert (last.shares.sum(axis=1) == 3).all() and not last.shares[last.record.rulebook.windows == -2].any()


def test_an_upsampling_copies_rows():
    net = sn.SparseNetwork().add_max_pool(3, 2, 1).add_upsample(2, 13).add_prelu().add_linear(3)
    view = look_into(net, shell(), CLASSES)
    assert [layer.relation for layer in view.layers] == [NONE, FILTER, COPY, SAME, ALL, SAME]
    given, copied = view.layers[1:3]
    (parents,) = copied.neighbours.T
    np.testing.assert_array_equal(copied.sites.coordinates[:, 1:] // 2, given.sites.coordinates[parents, 1:])
    np.testing.assert_array_equal(copied.features, given.features[parents])
    assert view.explained == "prelu1" and copied.gradient.any()


def test_a_transposed_convolution_is_a_filter_over_its_input():
    net = sn.SparseNetwork().add_convolution(2, 2, 2, bias=False).add_transposed_convolution(3, 2, 2).add_linear(3)
    view = look_into(net, shell(), CLASSES)
    given, made = view.layers[1:3]
    assert made.relation == FILTER and made.sites.spatial_size == (14,) * 3
    offsets, weight = offsets_of(net.layers[1]), net.layers[1].weight.numpy()
    for m, k in [(0, int(np.argmax(made.neighbours[0] >= 0))), (7, int(np.argmax(made.neighbours[7] >= 0)))]:
        n = made.neighbours[m, k]
        np.testing.assert_array_equal(made.sites.coordinates[m, 1:], given.sites.coordinates[n, 1:] * 2 + offsets[k])
        share = np.linalg.norm(given.features[n] @ weight[np.ravel_multi_index(offsets[k], (2, 2, 2))])
        np.testing.assert_allclose(made.shares[m, k], share, rtol=1e-5)


def test_the_network_is_left_as_it_was():
    net = network().train()
    held = np.ones(3, np.float32)
    net.layers[-1].bias.grad = held
    look_into(net, shell(), CLASSES)
    assert net.training and net.layers[-1].bias.grad is held and net.layers[0].weight.grad is None


def test_a_shape_without_voxels():
    x = sn.SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 4), int), (14, 14, 14), 1)
    view = look_into(network(), x, CLASSES)
    assert [len(layer.features) for layer in view.layers][:-2] == [0] * 9 and len(view.classes) == 3


@pytest.mark.parametrize(("change", "message"), [
    (lambda: (network(), sn.SparseTensor(np.ones((2, 1), np.float32), [[0, 1, 1, 1], [1, 1, 1, 1]], (14,) * 3, 2)),
     "3 dimensions and 2 samples, expected 3 and 1"),
    (lambda: (sn.s3dcnn(3, channels=(2, 3), dimension=2),
              sn.SparseTensor(np.ones((1, 1), np.float32), [[0, 1, 1]], (6, 6), 1)), "2 dimensions and 1 samples"),
    (lambda: (sn.SparseNetwork(), shell()), "no layers"),
    (lambda: (sn.SparseNetwork().add(sn.nn.ToDense()), shell()), "to_dense1 returns shape"),
    (lambda: (spoilt(), shell()), "linear1 has 3 of 3 values that are not finite"),
])
def test_what_cannot_be_shown_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        look_into(*change(), CLASSES)


def spoilt():
    net = network()
    net.layers[-1].bias.array = np.full(3, np.nan, np.float32)
    return net


def test_a_target_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match="target is 3, expected 0 to 2"):
        look_into(network(), shell(), CLASSES, target=3)
    with pytest.raises(ValueError, match="target is 0, but the network returns"):
        look_into(network(None), shell(), (), target=0)
