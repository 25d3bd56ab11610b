"""Layers that run as one operation on a CPU, in evaluation without a graph: the same bits as one after another."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import nn
from sparsenet.nn import fusion

SIDE = 14


@pytest.fixture
def fused(monkeypatch):
    """The slopes of the convolutions that ran with their leaky ReLU."""
    slopes, operation = [], fusion.convolution_leaky_relu

    def recorded(x, weight, bias, geometry, slope):
        slopes.append(slope)
        return operation(x, weight, bias, geometry, slope)

    monkeypatch.setattr(fusion, "convolution_leaky_relu", recorded)
    return slopes


def some_input(background="zeros", dtype="float32"):
    """Three samples, the second of them empty."""
    rng = np.random.default_rng(5)
    cells = np.sort(rng.permutation(2 * SIDE**3)[:300])
    coordinates = np.stack(np.unravel_index(cells, (2, SIDE, SIDE, SIDE)), axis=1).astype(np.int32)
    coordinates[:, 0] *= 2
    return sn.SparseTensor(rng.standard_normal((300, 1)).astype(dtype), coordinates, (SIDE,) * 3, 3, background)


def network(dtype="float32", **changes):
    net = sn.s3dcnn(3, channels=(5, 37, 8), **changes).to(dtype=dtype)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.array = np.random.default_rng(len(name)).standard_normal(parameter.shape).astype(dtype) / 8
    return net.eval()


@pytest.mark.parametrize("background", ["zeros", np.full(1, 0.3)], ids=["zeros", "a row"])
def test_the_same_bits_as_with_a_graph(fused, background, dtype):
    if not isinstance(background, str):
        background = background.astype(dtype)
    net, x = network(dtype), some_input(background, dtype)
    expected = net(x)
    assert not fused and not expected.is_leaf
    with sn.no_grad():
        found = net(x)
        assert fused == [0.33] * 3
        assert found.numpy().tobytes() == expected.numpy().tobytes()
        below, other = net.run(x, 0, 2).background, net.activations(x)[1].output.background
        assert below.numpy().tobytes() == other.numpy().tobytes()


def test_a_submanifold_convolution_without_a_bias(fused):
    layers = [nn.SubmanifoldConv(1, 6, 3, bias=False, rng=0), nn.LeakyReLU(0.5), nn.SparseMaxPool(3, 2)]
    net = nn.Sequential(*layers).eval()
    expected = net(some_input())
    with sn.no_grad():
        found = net(some_input())
    assert fused == [0.5] and found.features.numpy().tobytes() == expected.features.numpy().tobytes()


@pytest.mark.parametrize("background", [None, np.ones((3, 1), "float32")], ids=["none", "by sample"])
def test_other_backgrounds_run_one_by_one(fused, background):
    with sn.no_grad():
        network()(some_input(background))
    assert not fused


def test_training_norms_groups_records_and_anomalies_run_one_by_one(fused):
    x = some_input()
    grouped = nn.Sequential(nn.SparseConv(1, 4, 2, rng=0), nn.SparseConv(4, 4, 2, groups=2, rng=0), nn.LeakyReLU(0.5))
    with sn.no_grad():
        network().train()(x)
        network(norm="batch")(x)
        grouped.eval()(x)
        network().activations(x)
        with sn.detect_anomaly():
            network()(x)
    assert not fused


def test_what_the_operation_refuses():
    layer = nn.SparseConv(1, 4, 2, rng=0)
    given = layer.weight, layer.bias, layer.geometry, 0.5
    with pytest.raises(RuntimeError, match="convolution_leaky_relu: has no gradient: call it within `no_grad`"):
        fusion.convolution_leaky_relu(some_input(), *given)
    with sn.no_grad(), pytest.raises(ValueError, match="convolution_leaky_relu: the input has no background, or one"):
        fusion.convolution_leaky_relu(some_input(None), *given)
