"""A network and all its gradients on every backend, against the CPU's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cuda_host.host_driver import poisoned_empty

import sparsenet as sn
from sparsenet.kernels import table
from sparsenet.kernels.cuda import use_driver


def outputs_and_gradients(device: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coordinates = np.argwhere(rng.random((2, 10, 10, 10)) < 0.05)
    x = sn.SparseTensor(rng.standard_normal((len(coordinates), 3)).astype(np.float32), coordinates, (10,) * 3, 2)
    net = sn.nn.Sequential(sn.nn.SparseConv(3, 8, 2), sn.nn.LeakyReLU(0.33), sn.nn.SparseMaxPool(3, 2),
                           sn.nn.SubmanifoldConv(8, 8, 3), sn.nn.SparseConv(8, 5, 2), sn.nn.GlobalPool("mean"))
    for parameter in net.parameters():
        parameter.array = 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)
    net.to(device)
    logits = net(x.to(device))
    sn.ops.softmax_cross_entropy(logits, np.array([1, 3])).backward()
    return [logits.numpy(), *(sn.Tensor(parameter.grad).numpy() for parameter in net.parameters())]


@pytest.fixture
def on_backend(backend, request, monkeypatch) -> Callable:
    """Runs a function of the device where the backend's kernels run."""
    if backend != "cuda":
        return lambda function: function("cuda" if backend == "gpu" else "cpu")
    driver, true_device = request.getfixturevalue("host_driver"), table.device_of

    def on_host(function):
        with use_driver(driver), poisoned_empty(), monkeypatch.context() as patch:
            patch.setattr(table, "device_of", lambda *arrays: (true_device(*arrays), "cuda")[1])
            return function("cpu")

    return on_host


def test_outputs_and_gradients_agree(on_backend):
    for found, expected in zip(on_backend(outputs_and_gradients), outputs_and_gradients("cpu"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
