"""Whole networks and all their gradients on every backend, against the CPU's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reference
from cuda_host import cupy_of_numpy

import sparsenet as sn
from sparsenet import backend as backends
from sparsenet.teach.cuda_host.host_driver import poisoned_empty


def with_gradients(net: sn.nn.Module, x: sn.SparseTensor, labels: list[int], device: str) -> dict[str, np.ndarray]:
    net.to(device)
    logits = net(x.to(device))
    loss = sn.ops.softmax_cross_entropy(logits, np.array(labels))
    loss.backward()
    gradients = {name: sn.Tensor(parameter.grad).numpy() for name, parameter in net.named_parameters()}
    return {"logits": logits.numpy(), "loss": loss.numpy(), **gradients}


def mixed_layers(device: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    coordinates = np.argwhere(rng.random((2, 10, 10, 10)) < 0.05)
    x = sn.SparseTensor(rng.standard_normal((len(coordinates), 3)).astype(np.float32), coordinates, (10,) * 3, 2)
    net = sn.nn.Sequential(sn.nn.SparseConv(3, 8, 2), sn.nn.LeakyReLU(0.33), sn.nn.SparseMaxPool(3, 2),
                           sn.nn.SubmanifoldConv(8, 8, 3), sn.nn.SparseConv(8, 5, 2), sn.nn.GlobalPool("mean"))
    for parameter in net.parameters():
        parameter.array = 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)
    return with_gradients(net, x, [1, 3], device)


def s3dcnn_in_float64(device: str) -> dict[str, np.ndarray]:
    """The paper's network, all levels and channels, with biases, on two small shapes."""
    net, rng = sn.s3dcnn(5, seed=1), np.random.default_rng(2)
    corner = np.indices((4, 4, 4)).reshape(3, -1).T
    cells = [corner[rng.permutation(64)[:count]] + at for count, at in ((9, 60), (5, 20))]
    coordinates = np.concatenate([np.insert(part, 0, sample, axis=1) for sample, part in enumerate(cells)])
    for name, parameter in net.named_parameters():
        parameter.array = parameter.array.astype(np.float64)
        if name.endswith("bias"):
            parameter.array = rng.uniform(-0.3, 0.3, parameter.shape)
    return with_gradients(net, sn.SparseTensor(np.ones((14, 1)), coordinates, net.field, 2), [1, 3], device)


def activations_in_float64(device: str) -> dict[str, np.ndarray]:
    """All activations, those of rows behind the pooling too."""
    rng, nn = np.random.default_rng(4), sn.nn
    coordinates = np.argwhere(rng.random((2, 6, 6, 6)) < 0.1)
    x = sn.SparseTensor(rng.standard_normal((len(coordinates), 2)), coordinates, (6,) * 3, 2, rng.standard_normal(2))
    net = nn.Sequential(nn.SparseConv(2, 5, 2), nn.PReLU(5), nn.ELU(0.5), nn.SubmanifoldConv(5, 5, 3), nn.GELU(),
                        nn.Residual(nn.SubmanifoldConv(5, 5, 3), nn.SiLU()), nn.PReLU(), nn.Softmax(),
                        nn.SparseConv(5, 4, 2), nn.Tanh(), nn.GlobalPool("mean"), nn.PReLU(4), nn.Sigmoid(),
                        nn.Softmax()).to(dtype="float64")
    for parameter in net.parameters():
        parameter.array = rng.uniform(-0.5, 0.5, parameter.shape)
    return with_gradients(net, x, [1, 3], device)


class Sides(sn.nn.Module):
    """Two parallel convolutions with different sites, concatenated with the input."""

    def __init__(self):
        self.one = sn.nn.SparseConv(6, 2, (3, 1, 1), padding=(1, 0, 0), bias=False, rng=4)
        self.other = sn.nn.SparseConv(6, 3, (1, 3, 1), padding=(0, 1, 0), bias=False, rng=5)

    def forward(self, x: sn.SparseTensor) -> sn.SparseTensor:
        return sn.ops.concatenate(self.one(x), self.other(x), x)


def residual_in_float64(device: str) -> dict[str, np.ndarray]:
    """Residual blocks, batch norm of sites and of the grid, with running statistics, and branches that are joined."""
    rng = np.random.default_rng(3)
    coordinates = np.argwhere(rng.random((3, 8, 8, 8)) < 0.1)
    coordinates = coordinates[coordinates[:, 0] != 1]
    net = sn.resnet(channels=(4, 6), seed=1)
    net.layers[-1:] = [Sides(), sn.nn.BatchNorm(11, statistics="grid"), sn.nn.ReLU(), sn.nn.GlobalPool("mean"),
                       sn.nn.Linear(11, 5, rng=2)]
    net.to(dtype="float64")
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.array = rng.uniform(0.1, 0.4, parameter.shape)
    found = with_gradients(net, sn.SparseTensor(np.ones((len(coordinates), 1)), coordinates, net.field, 3), [1, 3, 0],
                           device)
    return found | {name: sn.Tensor(buffer.array).numpy() for name, buffer in net.named_buffers()}


def poolings_in_float64(device: str) -> dict[str, np.ndarray]:
    """Padded and plain poolings, upsampling, linear layers on sites, pruning, and rows that are spread over them."""
    rng = np.random.default_rng(4)
    coordinates = np.argwhere(rng.random((3, 9, 9, 9)) < 0.06)
    coordinates = coordinates[coordinates[:, 0] != 1]
    x = sn.SparseTensor(rng.standard_normal((len(coordinates), 2)), coordinates, (9,) * 3, 3, rng.standard_normal(2))
    net = sn.nn.Sequential(
        sn.nn.Linear(2, 32, rng=0), pool := sn.nn.SparseAvgPool(3, 2, 1), sn.nn.SubmanifoldConv(32, 6, 3, rng=1),
        sn.nn.InverseConv(6, 5, pool, rng=2), sn.nn.SparseMaxPool(3, 2, 1), sn.nn.SparseSumPool(2),
        sn.nn.Upsample(2, 5), Marked(), sn.nn.GlobalPool("mean"), sn.nn.Linear(10, 4, rng=3)).to(dtype="float64")
    return with_gradients(net, x, [1, 3, 0], device)


class Marked(sn.nn.Module):
    """Three of four sites, each with the mean of its sample beside it."""

    def forward(self, x: sn.SparseTensor) -> sn.SparseTensor:
        xp = backends.array_module(x.features.array)
        x = sn.ops.prune(x, xp.arange(len(x)) % 4 > 0)
        return sn.ops.concatenate(x, sn.ops.broadcast(sn.ops.global_pool(x), x))


def groups_in_float64(device: str) -> dict[str, np.ndarray]:
    """Convolutions in groups, depthwise too, and norms of samples and rows, behind which backgrounds differ by sample;
    the second sample has no site."""
    rng = np.random.default_rng(4)
    coordinates = np.argwhere(rng.random((3, 7, 7, 7)) < 0.1)
    coordinates = coordinates[coordinates[:, 0] != 1]
    net = sn.SparseNetwork(seed=2).add_submanifold(6, 3).add_submanifold(6, 3, groups=6).add_leaky_relu(0.1)
    net.add_instance_norm(statistics="grid").add_convolution(8, 2, 2, groups=2).add_group_norm(2)
    net.add_max_pool(2).add_layer_norm().add_linear(5, bias=False).add_layer_norm()
    net.to(dtype="float64")
    for parameter in net.parameters():
        parameter.array = parameter.array + 0.1 * rng.standard_normal(parameter.shape)
    x = sn.SparseTensor(rng.standard_normal((len(coordinates), 1)), coordinates, (7, 7, 7), 3, np.full(1, 0.3))
    return with_gradients(net, x, [1, 3, 0], device)


@pytest.fixture
def on_backend(backend, request, monkeypatch) -> Callable:
    """Calls a function with the device on which the backend's kernels run."""
    if backend == "reference":
        monkeypatch.setattr(backends, "_chosen", [])

        def on_reference(function):
            sn.set_backend("reference")
            found = function("cpu")
            sn.set_backend(None)
            return found

        return on_reference
    if backend != "cuda":
        return lambda function: function("cuda" if backend == "gpu" else "cpu")
    driver = request.getfixturevalue("host_driver")

    def on_host(function):
        with cupy_of_numpy.installed(driver), poisoned_empty():
            return function("cuda")

    return on_host


@pytest.mark.parametrize("case", [mixed_layers, s3dcnn_in_float64, residual_in_float64, activations_in_float64,
                                   poolings_in_float64, groups_in_float64])
def test_outputs_and_gradients_agree(on_backend, case):
    found, expected = on_backend(case), case("cpu")
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert np.abs(expected[name]).max() > 0, f"{name} is zero everywhere, which proves nothing"
        reference.assert_close(values, expected[name], name)
