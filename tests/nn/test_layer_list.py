"""Networks from lists of layers: the same as built by hand, and errors that name the layer."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn
from sparsenet.nn.layer_list import checked_layers, describe_layers, grids, layer_kinds, network_of, normalises_rows
from sparsenet.toml import as_toml, parse_toml


def convolution(channels, size, **settings):
    return {"kind": "convolution", "channels": channels, "size": size, **settings}


def submanifold(channels, **settings):
    return {"kind": "submanifold", "channels": channels, "size": 3, **settings}


def pool(size, stride):
    return {"kind": "max_pool", "size": size, "stride": stride}


def block(channels, first, shortcut=()):
    layers = [first, "batch_norm", "relu", submanifold(channels, bias=False), "batch_norm"]
    return {"kind": "residual", "layers": layers} | ({"shortcut": [*shortcut, "batch_norm"]} if shortcut else {})


def halving(channels):
    half = convolution(channels, 2, stride=2, bias=False)
    return block(channels, half, [half])


RESNET = [submanifold(4, bias=False), "batch_norm", "relu", block(4, submanifold(4, bias=False)), "relu", halving(5),
          "relu", halving(6), "relu", "global_pool", {"kind": "linear", "channels": 3}]
S3DCNN = [convolution(4, 2), {"kind": "leaky_relu", "slope": 0.33}, pool(3, 2),
          convolution(6, 2), {"kind": "leaky_relu", "slope": 0.33}, pool(3, 2),
          convolution(8, 2), {"kind": "leaky_relu", "slope": 0.33}, "global_pool", {"kind": "linear", "channels": 3}]
NAMED = {"resnet": (RESNET, sn.resnet, (4, 5, 6)), "s3dcnn": (S3DCNN, sn.s3dcnn, (4, 6, 8))}


@pytest.mark.parametrize("name", NAMED)
def test_a_list_gives_the_named_network_bit_for_bit(name, rng):
    layers, make, channels = NAMED[name]
    listed, named = network_of(layers, seed=7), make(3, seed=7, channels=channels)
    assert listed.names() == named.names()
    mine, its = listed.state_dict(), named.state_dict()
    assert list(mine) == list(its)
    assert all(mine[key].tobytes() == its[key].tobytes() for key in mine)
    side = named.field[0]
    x = sn.SparseTensor(rng.standard_normal((60, 1)).astype("f4"),
                        reference.random_coordinates(rng, 60, (side,) * 3, 2), (side,) * 3, 2)
    assert listed(x).numpy().tobytes() == named(x).numpy().tobytes()


def test_blocks_nest_and_draw_weights_of_their_own(rng):
    inner = {"kind": "residual", "layers": [submanifold(4), submanifold(4)], "shortcut": [submanifold(4)]}
    net = network_of([submanifold(4), {"kind": "residual", "layers": [inner, inner, submanifold(4)]}], seed=3)
    names = set(net.state_dict())
    assert {"residual1.0.0.weight", "residual1.0.shortcut.weight", "residual1.1.1.bias", "residual1.2.weight"} <= names
    weights = [module.weight.array.tobytes() for module in net.modules() if isinstance(module, nn.SubmanifoldConv)]
    assert len(set(weights)) == len(weights) == 8
    again = network_of([submanifold(4), {"kind": "residual", "layers": [inner, inner, submanifold(4)]}], seed=3)
    assert [m.weight.array.tobytes() for m in again.modules() if isinstance(m, nn.SubmanifoldConv)] == weights
    x = sn.SparseTensor(rng.standard_normal((20, 1)).astype("f4"),
                        reference.random_coordinates(rng, 20, (6,) * 3, 2), (6,) * 3, 2)
    net(x).features.sum().backward()
    assert all(np.any(parameter.grad) for parameter in net.parameters())


def test_each_method_that_adds_a_layer_is_a_kind_with_its_defaults():
    methods = {name.removeprefix("add_") for name in dir(sn.SparseNetwork) if name.startswith("add_")}
    assert set(layer_kinds()) == methods
    assert {name: setting.default for name, setting in layer_kinds()["convolution"].items()} == {
        "channels": None, "size": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True}
    parameters = inspect.signature(sn.SparseNetwork.add_batch_norm).parameters
    assert layer_kinds()["batch_norm"]["eps"].default == parameters["eps"].default
    assert "max_pool: size, stride, padding = 0" in describe_layers() and "relu" in describe_layers()
    assert "upsample: scale_factor, spatial_size" in describe_layers()
    assert 'batch_norm: momentum = 0.1, eps = 1e-05, statistics = "sites"' in describe_layers()


def test_it_survives_its_own_text():
    layers = checked_layers(RESNET)
    assert layers[1] == {"kind": "batch_norm"}
    text = as_toml(layers)
    assert tuple(parse_toml(f"layers = {text}")["layers"]) == layers
    assert text.splitlines()[1] == '    {kind = "submanifold", channels = 4, size = 3, bias = false},'
    tables = parse_toml('[[layers]]\nkind = "residual"\n'
                        '[[layers.layers]]\nkind = "submanifold"\nchannels = 1\nsize = 3')
    assert checked_layers(tables["layers"]) == ({"kind": "residual", "layers": [submanifold(1)]},)


@pytest.mark.parametrize(("layers", "message"), [
    (3, "layers is 3, expected a list of layers"),
    ([3], "layer 1 is 3, expected a kind, or a table"),
    ([{}], "layer 1 has no kind, expected one such as convolution or "),
    (["relu", "rellu"], "layer 2: kind is 'rellu': did you mean relu?"),
    (["zzz"], "layer 1: kind is 'zzz', expected one such as convolution "),
    ([{"kind": 3}], "layer 1: kind is 3, expected one such as"),
    ([{"kind": "relu", "slope": 1}], r"layer 1 \(relu\): slope is not a key, expected no keys"),
    ([convolution(4, 2, strides=2)], r"layer 1 \(convolution\): strides is not a key: did you mean stride\?"),
    ([{"kind": "convolution", "chanels": 3, "size": 2}], "chanels is not a key: did you mean channels?"),
    ([{"kind": "convolution", "channels": 3}], r"layer 1 \(convolution\): size is missing, expected a whole number"),
    ([convolution(4.0, 2)], r"layer 1 \(convolution\): channels is 4.0, expected a whole number"),
    ([convolution(True, 2)], "channels is True, expected a whole number"),
    ([convolution(4, "2")], "size is '2', expected a whole number, or a list of one for each dimension"),
    ([convolution(4, [])], r"size is \[\], expected a whole number"),
    ([convolution(2**40, 2)], "channels is 1099511627776, expected numbers of at most 2147483647"),
    ([convolution(4, 2, bias=0)], "bias is 0, expected true or false"),
    ([{"kind": "leaky_relu", "slope": float("nan")}], "slope is nan, expected a number"),
    ([{"kind": "global_pool", "mode": 2}], "mode is 2, expected a text"),
    ([{"kind": "residual", "layers": []}], r"layer 1 \(residual\): layers is empty, expected at least one layer"),
    ([{"kind": "residual", "layers": "relu"}], "layers is 'relu', expected a list of layers"),
    ([{"kind": "residual", "layers": ["relu", "rel"]}], r"layer 1.layers.2: kind is 'rel': did you mean relu?"),
    ([{"kind": "residual", "layers": ["relu"], "shortcut": [{"kind": "residual", "layers": [2]}]}],
     "layer 1.shortcut.1.layers.1 is 2, expected a kind"),
], ids=str)
def test_what_is_wrong_is_named(layers, message):
    with pytest.raises(ValueError, match=message) as error:
        checked_layers(layers)
    assert len(str(error.value)) < 200


def test_blocks_within_blocks_end_somewhere():
    layer = {"kind": "residual", "layers": ["relu"]}
    for _ in range(20):
        layer = {"kind": "residual", "layers": [layer]}
    with pytest.raises(ValueError, match="nested too deeply, expected at most 16 levels"):
        checked_layers([layer])


@pytest.mark.parametrize(("layers", "message"), [
    ([convolution(0, 2)], r"layer 1 \(convolution\): SparseConv: out_channels is 0, expected at least 1"),
    (["relu", {**submanifold(3), "size": 2}], r"layer 2 \(submanifold\): SubmanifoldConv: kernel_size is \(2, 2, 2\)"),
    ([{"kind": "batch_norm", "statistics": "rows"}], r"layer 1 \(batch_norm\): .* one of sites, grid"),
    (["global_pool", convolution(3, 2)], r"layer 2 \(convolution\): .* plain Tensor by now"),
    (["global_pool", {"kind": "residual", "layers": ["relu"]}], r"layer 2 \(residual\): .* plain Tensor by now"),
    ([{"kind": "residual", "layers": ["relu", "global_pool"]}],
     r"layer 1.layers.2 \(global_pool\): it gives one row per sample, and the sum of a residual block needs sites"),
    ([{"kind": "residual", "layers": [submanifold(3)]}],
     r"layer 1 \(residual\): the layers give 3 channels, the input has 1: give the block a shortcut that gives 3"),
    ([{"kind": "residual", "layers": [submanifold(3)], "shortcut": [submanifold(4)]}], "the shortcut gives 4"),
    ([{"kind": "residual", "layers": [{"kind": "residual", "layers": [submanifold(0)]}]}],
     r"layer 1.layers.1.layers.1 \(submanifold\): "),
], ids=str)
def test_what_does_not_fit_together_is_named(layers, message):
    with pytest.raises(ValueError, match=message):
        network_of(layers)


def test_grids_are_told_ahead_and_must_agree():
    assert grids(network_of(S3DCNN), (14,) * 3)[1:] == [(13,) * 3] * 2 + [(6,) * 3, (5,) * 3, (5,) * 3] + [
        (2,) * 3, (1,) * 3, (1,) * 3, (), ()]
    with pytest.raises(ValueError, match=r"layer 3 \(max_pool\): .* does not fit a grid"):
        grids(network_of(S3DCNN), (3,) * 3)
    uneven = [{"kind": "residual", "layers": [convolution(1, 2, stride=2)], "shortcut": [convolution(1, 2)]}]
    with pytest.raises(ValueError, match=r"layer 1 \(residual\): from a grid of 8x8x8 its paths lead to grids of 4x4x4 "
                                         "and 7x7x7: give the shortcut the stride of the layers"):
        grids(network_of(uneven), (8,) * 3)


def test_layers_on_sites_and_on_rows_are_told_apart():
    layers = [{"kind": "average_pool", "size": 3, "stride": 2, "padding": 1},
              {"kind": "linear", "channels": 4, "on_sites": True},
              {"kind": "upsample", "scale_factor": 2, "spatial_size": [9, 8, 9]}, {"kind": "sum_pool", "size": 2},
              {"kind": "linear", "channels": 3}, "relu"]
    net = network_of(layers)
    assert net.names() == ["average_pool1", "linear1", "upsample1", "sum_pool1", "global_pool1", "linear2", "relu1"]
    assert grids(net, (8,) * 3) == [(8,) * 3, (4,) * 3, (4,) * 3, (9, 8, 9), (4,) * 3, (), (), ()]
    assert not net.layers[1].weight.array.tobytes() == net.layers[5].weight.array.tobytes()
    with pytest.raises(ValueError, match=r"layer 2 \(linear\): add_linear: the network gives a plain Tensor by now"):
        network_of(["global_pool", {"kind": "linear", "channels": 3, "on_sites": True}])
    with pytest.raises(ValueError, match=r"layer 1 \(upsample\): Upsample: scale_factor is \(2, 2\), expected 3 num"):
        network_of([{"kind": "upsample", "scale_factor": [2, 2]}])
    with pytest.raises(ValueError, match=r"layer 1 \(max_pool\): SparseMaxPool: padding is \(2, 2, 2\), expected"):
        network_of([{"kind": "max_pool", "size": 3, "padding": 2}])


def test_layers_behind_depth_images_have_two_dimensions():
    images = {"kind": "depth_images", "count": 3, "elevation": 0.0}
    block = {"kind": "residual", "layers": [submanifold(4), "relu"]}
    net = network_of([submanifold(3), images, convolution(4, 3, stride=2), block, {"kind": "max_pool", "size": 2},
                      "image_pool", {"kind": "linear", "channels": 5}])
    assert net.names() == ["submanifold1", "depth_images1", "convolution1", "residual1", "max_pool1", "global_pool1",
                           "image_pool1", "linear1"]
    assert net.layers[2].weight.shape == (9, 4, 4) and net.layers[3].layers[0].weight.shape == (9, 4, 4)
    assert repr(net.layers[1]) == "DepthImages(3 at 0 degrees)" and repr(net.layers[6]) == "ImagePool(3 images)"
    assert grids(net, (8,) * 3) == [(8,) * 3, (8,) * 3, (12, 8), (5, 3), (5, 3), (2, 1), (), (), ()]
    assert "depth_images: count = 12, elevation = 30.0, up_axis = 2" in describe_layers()
    with pytest.raises(ValueError, match=r"layer 1.layers.1 \(depth_images\): it gives images, and the other path of a "
                                         "residual does not: put it before the block"):
        network_of([{"kind": "residual", "layers": [images]}])
    with pytest.raises(ValueError, match=r"layer 1 \(image_pool\): add_image_pool: there are no images"):
        network_of(["image_pool"])


@pytest.mark.parametrize(("layers", "does"), [
    (["global_pool", {"kind": "linear", "channels": 3}, "relu", "batch_norm"], True),
    ([{"kind": "linear", "channels": 3, "on_sites": True}, "batch_norm"], False),
    (RESNET, False), (["global_pool", "batch_norm"], True), ([convolution(2, 8), "batch_norm"], True),
    ([{"kind": "residual", "layers": [convolution(2, 8), "batch_norm"], "shortcut": [convolution(2, 8)]}], True),
    ([convolution(2, 8), "relu"], False),
])
def test_norms_of_one_row_per_sample_are_found(layers, does):
    assert normalises_rows(network_of(layers), (8,) * 3) == does


def test_other_dimensions_and_channels():
    net = network_of([convolution(3, [2, 3])], dimension=2, in_channels=5)
    assert net.layers[0].weight.shape == (6, 5, 3)
