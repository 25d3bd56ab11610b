"""The dense equivalent of a network: run by the plain dense loops, it gives the sparse one's output; what has none is
refused."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from export_cases import BACKGROUND, NETWORKS, SIDE, batch, dense_output, network, on_zeros, trained, transposed

import sparsenet as sn
from sparsenet import nn
from sparsenet.export.dense import dense_graph
from sparsenet.export.onnx_nodes import OPERATIONS


def run(graph, grid: np.ndarray) -> np.ndarray:
    """The output of a dense network in float64, by the loops of `reference`."""
    values = {graph.input.name: grid}
    for node in graph.nodes:
        x, *more = (values[value.name] for value in node.inputs)
        assert x.shape[1:] == (node.inputs[0].channels, *node.inputs[0].spatial_size)
        values[node.name] = OF_OPERATION[node.operation](node.settings, node.arrays, x, *more)
    return values[graph.output.name]


def column(row, x):
    return row.reshape(1, -1, *[1] * (x.ndim - 2))


def filter_of(settings):
    return {name: settings[name] for name in ("size", "stride")}


def convolution(settings, arrays, x):
    filter_ = (settings[name] for name in ("size", "stride", "padding", "dilation"))
    return reference.grouped_convolution(x, arrays["weight"], arrays.get("bias"), settings["groups"], *filter_)


def transposed_convolution(settings, arrays, x):
    filter_ = (settings[name] for name in ("size", "stride", "padding", "dilation", "output_padding"))
    return reference.transposed_convolution(x, arrays["weight"], arrays.get("bias"), settings["groups"], *filter_)


def batch_norm(settings, arrays, x):
    mean, var, weight, bias = (column(arrays[key], x) for key in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / np.sqrt(var + settings["eps"]) * weight + bias


def group_norm(settings, arrays, x):
    return reference.group_norm(x, settings["groups"], arrays["weight"], arrays["bias"], settings["eps"])


def layer_norm(settings, arrays, x):
    """A group norm of each cell."""
    rows = np.moveaxis(x, 1, -1)
    found = reference.group_norm(rows.reshape(-1, x.shape[1]), 1, arrays["weight"], arrays["bias"], settings["eps"])
    return np.moveaxis(found.reshape(rows.shape), -1, 1)


def cosine_linear(settings, arrays, x):
    w = arrays["weight"]
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0)
    return settings["scale"] * (x @ w) / np.where(norms, norms, 1)


def linear(_, arrays, x):
    rows = reference.linear(np.moveaxis(x, 1, -1), arrays["weight"], arrays.get("bias"))
    return np.moveaxis(rows, -1, 1)


def pad(settings, arrays, x):
    widths = [(0, 0), (0, 0), *zip(settings["before"], settings["after"], strict=True)]
    outside = np.pad(np.zeros_like(x), widths, constant_values=1)
    return np.pad(x, widths) + outside * column(arrays["row"], x)


def windows_of(settings):
    assert set(settings["dilation"]) == {1}
    return {**filter_of(settings), "padding": settings["padding"]}


def softmax(settings, _, x):
    return np.moveaxis(reference.softmax(np.moveaxis(x, settings["axis"], 1)), 1, settings["axis"])


def activation(name):
    return lambda settings, _, x: reference.activation(x, name, settings.get("alpha"))


OF_OPERATION = {
    "convolution": convolution, "transposed_convolution": transposed_convolution,
    "batch_norm": batch_norm, "group_norm": group_norm, "layer_norm": layer_norm, "cosine_linear": cosine_linear,
    "linear": linear, "pad": pad,
    "max_pool": lambda settings, _, x: reference.max_pool(x, **windows_of(settings))[0],
    "average_pool": lambda settings, _, x: reference.average_pool(x, **windows_of(settings)),
    "sum_pool": lambda settings, _, x: reference.sum_pool(x, **windows_of(settings)),
    "upsample": lambda settings, _, x: reference.upsample(x, settings["scale"], settings["spatial_size"]),
    **{name: activation(name) for name in reference.ACTIVATIONS},
    "prelu": lambda _, arrays, x: reference.prelu(x, arrays["weight"]), "softmax": softmax,
    "leaky_relu": lambda settings, _, x: reference.leaky_relu(x, settings["slope"]),
    "global_pool": lambda settings, _, x: reference.global_pool(x, settings["mode"]),
    "add": lambda settings, arrays, x, y: x + y,
    "concatenate": lambda settings, arrays, *xs: np.concatenate(xs, axis=1),
}


def test_each_operation_is_known_here_and_to_onnx():
    assert set(OF_OPERATION) == set(OPERATIONS)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_a_transposed_convolution_on_zeros(dimension, groups, rng):
    net, x = trained(transposed(dimension, groups), rng, "float64"), on_zeros(batch(dimension, rng, "float64"))
    graph = dense_graph(net, background=np.zeros(2))
    reference.assert_close(run(graph, x.to_dense().numpy()), dense_output(net, x))


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_the_sparse_network_computes(name, dimension, rng):
    net = trained(NETWORKS[name](dimension), rng, "float64")
    graph = dense_graph(net, background=BACKGROUND)
    x = batch(dimension, rng, "float64")
    expected = dense_output(net, x)
    assert expected.shape[1:] == (graph.output.channels, *graph.output.spatial_size)
    reference.assert_close(run(graph, x.to_dense().numpy()), expected)


def test_padding_on_a_zero_background_is_the_convolution_s():
    net = network(2).add_convolution(3, 3, padding=1, bias=False).add_relu().add_convolution(3, 3, padding=1)
    assert [node.operation for node in dense_graph(net).nodes] == ["convolution", "leaky_relu", "convolution"]
    names = [node.name for node in dense_graph(net, background=[0, 0.5]).nodes]
    assert names == ["convolution1_padding", "convolution1", "relu1", "convolution2_padding", "convolution2"]


def test_the_mode_is_evaluation_whatever_the_network_is_in(rng):
    net = trained(network(2).add_batch_norm().add_dropout(0.5), rng, "float64").train()
    mean = net.layers[0].running_mean.numpy().copy()
    graph, x = dense_graph(net, background=BACKGROUND), batch(2, rng, "float64")
    assert [node.operation for node in graph.nodes] == ["batch_norm"]
    assert all(module.training for module in net.modules()) and (net.layers[0].running_mean.numpy() == mean).all()
    reference.assert_close(run(graph, x.to_dense().numpy()), dense_output(net.eval(), x))


def test_modules_that_do_not_say_what_they_take(rng):
    net = trained(nn.Sequential(nn.SparseConv(2, 3, 2, dimension=2, rng=0), nn.Residual(nn.ReLU())), rng, "float64")
    graph, x = dense_graph(net, (SIDE, SIDE), BACKGROUND, in_channels=2), batch(2, rng, "float64")
    assert [node.name for node in graph.nodes] == ["0", "1.0", "1"]
    reference.assert_close(run(graph, x.to_dense().numpy()), dense_output(net, x))
    alone = dense_graph(nn.SparseConv(2, 3, 2, rng=0), 4, in_channels=2)
    assert [node.name for node in alone.nodes] == ["result"] and alone.output.spatial_size == (3, 3, 3)
    assert dense_graph(nn.Dropout(), 4, in_channels=2).nodes == []


def test_softmax_over_the_samples(rng):
    net = network(2).add_global_pool().add(nn.Softmax(0)).to("float64")
    x = batch(2, rng, "float64")
    found = run(dense_graph(net, background=BACKGROUND), x.to_dense().numpy())
    reference.assert_close(found, dense_output(net, x))
    np.testing.assert_allclose(found.sum(axis=0), 1)


class Mine(nn.Module):
    def forward(self, x):
        return x


class Changed(nn.ReLU):
    def forward(self, x):
        return x * 2


class Named(nn.Linear):
    """Its forward is that of Linear."""


def conv(**options) -> nn.SparseNetwork:
    return network(2).add_convolution(3, 3, **options)


@pytest.mark.parametrize(("net", "told"), [
    (network(2).add_submanifold(3, 3), r"submanifold1 \(SubmanifoldConv\) has no dense equivalent.*padding=\(1, 1\)"),
    (network(2).add_residual(nn.SubmanifoldConv(2, 2, 3, dimension=2)), r"residual1\.0 \(SubmanifoldConv\)"),
    (conv(stride=2).add_inverse_convolution(2, "convolution1"), r"inverse_convolution1 \(InverseConv\) has no dense"),
    (network(2).add(Mine()), r"mine1 \(Mine\) has no dense equivalent that is known here: register"),
    (network(2).add(Changed()), r"relu1 \(Changed\) has no dense equivalent that is known"),
    (network(2).add(nn.ToDense()).add(nn.Linear(SIDE, 3)), r"linear1: Linear: x has shape \(1, 2, 9, 9\).*expected"),
    (network(2).add(nn.CosineLinear(2, 3)), "cosine_linear1: CosineLinear: .* SparseTensor.*put a GlobalPool before"),
    (network(2).add(nn.ToDense()).add(nn.CosineLinear(SIDE, 3)), "cosine_linear1: CosineLinear: .*expected"),
    (network(2).add(nn.Softmax(2)), "softmax1: Softmax: axis is 2, expected -1 or 1"),
    (network(2).add(nn.PReLU(3)), "prelu1: PReLU: x has 2 channels"),
    (network(2).add(nn.Upsample((2, 2, 2))), "upsample1: Upsample: scale_factor .* for the 2 dimensions"),
    (network(2).add_global_pool().add(nn.Upsample(2)), "upsample1: Upsample: the input is Tensor"),
    (network(2).add_convolution(3, 12), r"export: convolution1: Geometry: .* does not fit a grid of \(9, 9\)"),
    (network(2).add_instance_norm(), r'instance_norm1 \(InstanceNorm\) has no dense equivalent.*statistics="grid"'),
    (network(2).add_group_norm(2), r'group_norm1 \(GroupNorm\) has no dense equivalent: it takes .* sites'),
    (network(2).add_instance_norm(statistics="grid").add_convolution(3, 3, padding=1),
     r"convolution1 \(SparseConv\) pads with the background, which differs by sample"),
    (conv().add_global_pool().add(nn.SparseConv(3, 2, 2, dimension=2)), "export: convolution2: .* is Tensor"),
])
def test_what_cannot_be_exported_is_named(net, told):
    with pytest.raises((TypeError, ValueError), match=told):
        dense_graph(net)


def test_a_subclass_that_computes_the_same_is_its_base(rng):
    net = network(2).add_global_pool().add(Named(2, 3, rng=0))
    assert [node.operation for node in dense_graph(net).nodes] == ["global_pool", "linear"]


def test_a_background_that_differs_by_sample_is_not_padded_with():
    differing = np.array([[0.5, 0.25]], np.float32)
    assert dense_graph(conv(), background=differing).output.background is None
    with pytest.raises(ValueError, match=r"convolution1 \(SparseConv\) pads with the background, which differs by"):
        dense_graph(conv(padding=1), background=differing)
    assert dense_graph(network(2).add_upsample(2, 17), background=differing).output.background is None
    with pytest.raises(ValueError, match=r"upsample1 \(Upsample\) pads with the background.*a spatial_size that the"):
        dense_graph(network(2).add_upsample(2, 19), background=differing)


def test_weights_that_are_not_finite():
    net = conv()
    net.layers[0].weight.array[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="convolution1: weight holds NaN or infinity"):
        dense_graph(net)


@pytest.mark.parametrize(("net", "options", "error", "told"), [
    (conv(), {"background": None}, ValueError, "background is None"),
    (conv(), {"field": 8}, ValueError, r"field is \(8, 8\), the network's is \(9, 9\): leave it out"),
    (sn.SparseNetwork(2).add_convolution(3, 3), {}, ValueError, "SparseNetwork has no field, expected field="),
    (nn.Sequential(nn.ReLU()), {"field": 4}, ValueError, "does not say how many channels.*in_channels="),
    (len, {}, TypeError, "net is builtin_function_or_method, expected a Module"),
])
def test_wrong_arguments(net, options, error, told):
    with pytest.raises(error, match=told):
        dense_graph(net, **options)
