"""Activations as layers: in networks built by hand and from lists, in blocks, behind pooling, on every device."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import nn, ops
from sparsenet.inspect import trace
from sparsenet.nn.activation_layers import ActivationLayer
from sparsenet.nn.layer_list import network_of

LAYERS = {  # kind -> the layer's class, arguments of the method that adds it, the operation
    "leaky_relu": (nn.LeakyReLU, {"slope": 0.3}, lambda x: ops.leaky_relu(x, 0.3)),
    "relu": (nn.ReLU, {}, lambda x: ops.leaky_relu(x, 0.0)),
    "elu": (nn.ELU, {"alpha": 0.5}, lambda x: ops.elu(x, 0.5)),
    "gelu": (nn.GELU, {}, ops.gelu),
    "silu": (nn.SiLU, {}, ops.silu),
    "tanh": (nn.Tanh, {}, ops.tanh),
    "sigmoid": (nn.Sigmoid, {}, ops.sigmoid),
    "prelu": (nn.PReLU, {"slope": 0.1}, lambda x: ops.prelu(x, sn.Tensor(np.full(4, 0.1, np.float32)))),
    "softmax": (nn.Softmax, {}, ops.softmax),
}
each_kind = pytest.mark.parametrize("kind", LAYERS)


def batch(rng, dtype=np.float32, side=7, channels=2):
    coordinates = reference.random_coordinates(rng, 30, (side,) * 2, 3, empty=(1,))
    return sn.SparseTensor(rng.standard_normal((30, channels)).astype(dtype), coordinates, (side,) * 2, 3,
                           rng.standard_normal(channels).astype(dtype))


def with_every_layer() -> sn.SparseNetwork:
    net = sn.SparseNetwork(dimension=2, in_channels=2).add_convolution(4, 2)
    for kind, (_, settings, _) in LAYERS.items():
        getattr(net, f"add_{kind}")(**settings)
    return net.add_prelu(shared=True).add_convolution(3, 2).add_linear(3).add_softmax()


def test_every_activation_of_the_package_is_here():
    found = {value for value in vars(nn).values() if isinstance(value, type) and issubclass(value, ActivationLayer)}
    assert found == {layer for layer, _, _ in LAYERS.values()}


@each_kind
def test_the_network_adds_the_layer_under_its_name(kind, rng):
    layer, settings, operation = LAYERS[kind]
    net = sn.SparseNetwork(dimension=2, in_channels=2).add_convolution(4, 2)
    assert getattr(net, f"add_{kind}")(**settings) is net
    assert type(net.layers[1]) is layer and net.names()[1] == f"{kind}1" and net.out_channels == 4
    x = batch(rng)
    y, expected = net(x), operation(net.run(x, 0, 1))
    assert np.array_equal(y.features.array, expected.features.array)
    assert np.array_equal(y.background.array, expected.background.array)
    listed = network_of([{"kind": "convolution", "channels": 4, "size": 2}, {"kind": kind, **settings}], 2, 2)
    assert np.array_equal(listed(x).features.array, y.features.array)


def test_slopes_are_parameters_of_channels_or_of_all(rng):
    net = sn.SparseNetwork(dimension=2, in_channels=2).add_convolution(4, 2).add_prelu().add_prelu(0.1, shared=True)
    weights = {name: parameter for name, parameter in net.named_parameters() if name.startswith("prelu")}
    assert {name: weight.array.tolist() for name, weight in weights.items()} == {
        "prelu1.weight": [0.25] * 4, "prelu2.weight": [np.float32(0.1)]}
    assert repr(net.layers[1]) == "PReLU(4)" and repr(net.layers[2]) == "PReLU(1)"
    net(batch(rng)).features.sum().backward()
    before = {name: weight.array.copy() for name, weight in weights.items()}
    sn.optim.SGD(net.parameters(), lr=0.1).step()
    assert all((weights[name].array != array).all() for name, array in before.items())
    again = sn.SparseNetwork(dimension=2, in_channels=2).add_convolution(4, 2).add_prelu().add_prelu(shared=True)
    again.load_state_dict(net.state_dict())
    assert np.array_equal(again.layers[1].weight.array, weights["prelu1.weight"].array)
    assert net.to(dtype=np.float64).layers[1].weight.dtype == np.float64


def test_all_in_a_network_and_in_blocks_by_differences(rng):
    block = nn.Residual(nn.ELU(), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), shortcut=nn.PReLU())
    net = nn.Sequential(nn.SparseConv(2, 3, 2, dimension=2, rng=0), nn.PReLU(3), block,
                        nn.Residual(nn.SubmanifoldConv(3, 3, 3, dimension=2, rng=1), nn.GELU()), nn.Softmax(),
                        nn.SparseConv(3, 2, 2, dimension=2, rng=2), nn.Tanh(), nn.GlobalPool(), nn.PReLU(2),
                        nn.Softmax()).to(dtype="float64")
    x = batch(rng, np.float64)
    x.features.requires_grad = x.background.requires_grad = True
    weights = sn.Tensor(rng.standard_normal((3, 2)))
    assert sn.gradcheck(lambda x: (net(x) * weights).sum(), [x], parameters=dict(net.named_parameters()))


def test_summary_and_trace_know_them(rng):
    net, x = with_every_layer(), batch(rng)
    records = trace(net, x)
    assert [record.name for record in records] == net.names()
    assert all(record.multiply_adds == 0 and record.pairs is None for record in records
               if isinstance(record.layer, ActivationLayer))
    text = net.summary(x)
    assert all(f"{kind}1" in text for kind in LAYERS)
    np.testing.assert_allclose(records[-1].features.sum(axis=1), 1, rtol=1e-6)


@each_kind
def test_the_weights_before_a_pooling_are_drawn_again_across_it(kind):
    settings = LAYERS[kind][1]
    nets = [sn.SparseNetwork().add_convolution(4, 2) for _ in range(2)]
    getattr(nets[0], f"add_{kind}")(**settings)
    drawn = [net.add_max_pool(3, 2).layers[0].weight.array for net in nets]
    alone = sn.SparseNetwork().add_convolution(4, 2).layers[0].weight.array
    assert np.array_equal(*drawn) and not np.array_equal(drawn[0], alone)


def test_in_evaluation_a_sample_has_the_same_bits_in_any_batch(rng):
    net = with_every_layer().eval()
    x = batch(rng)
    whole = net(x).numpy()
    for sample in range(3):
        rows = x.coordinates[:, 0] == sample
        cells = x.coordinates[rows].copy()
        cells[:, 0] = 0
        lone = sn.SparseTensor(x.features.array[rows], cells, (7, 7), 1, x.background.array)
        assert net(lone).numpy().tobytes() == whole[sample:sample + 1].tobytes()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.ELU(-0.5), ValueError, "ELU: alpha is -0.5, expected a finite number of at least 0"),
    (lambda: nn.PReLU(0), ValueError, "PReLU: channels is 0, expected at least 1"),
    (lambda: nn.PReLU(2.5), TypeError, "PReLU: channels is 2.5, expected a whole number"),
    (lambda: nn.PReLU(2, float("inf")), ValueError, "PReLU: slope is inf, expected a finite number"),
    (lambda: nn.Softmax(None), TypeError, "Softmax: axis is None, expected an integer"),
    (lambda: nn.PReLU(4)(sn.Tensor(np.ones((2, 3), "f4"))), ValueError, "PReLU: x has 3 channels, weight has shape"),
])
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_reprs():
    net = nn.Sequential(nn.ELU(0.5), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Softmax(), nn.Softmax(0))
    assert [repr(layer) for layer in net.children()] == ["ELU(0.5)", "GELU()", "SiLU()", "Tanh()", "Sigmoid()",
                                                         "Softmax()", "Softmax(axis 0)"]
