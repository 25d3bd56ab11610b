"""Conversions between dtypes, and their gradients; float16 has its tests in tests/cuda."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import sparsenet as sn
from sparsenet.destination import device_and_dtype

COORDINATES = np.array([[0, 0, 1], [0, 2, 2]])


@pytest.mark.parametrize(("given", "wanted"), [("float32", "float64"), ("float64", "float32")])
def test_a_gradient_comes_back_in_the_dtype_that_went_in(given, wanted, rng):
    x = sn.Tensor(rng.standard_normal((3, 2)).astype(given), requires_grad=True)
    y = x.astype(wanted)
    assert y.dtype == wanted and np.array_equal(y.numpy(), x.numpy().astype(wanted))
    (y * y).sum().backward()
    assert x.grad.dtype == given
    np.testing.assert_allclose(x.grad, 2 * x.numpy(), rtol=1e-6)


def test_a_sparse_tensor_s_features_and_background(rng):
    features, ground = sn.Tensor(np.ones((2, 1), np.float32), True), sn.Tensor(np.ones(1, np.float32), True)
    x = sn.SparseTensor(features, COORDINATES, (3, 3), 1, ground)
    y = x.astype(np.float64)
    assert y.dtype == y.background.dtype == np.float64 and y.sites is x.sites
    y.to_dense().sum().backward()
    assert features.grad.tolist() == [[1], [1]] and ground.grad.tolist() == [7]
    assert sn.ops.cast(x.with_features(features, None), "float64").background is None


def test_what_has_the_dtype_is_given_back():
    x = sn.Tensor(np.ones(2, np.float32))
    assert x.astype("float32") is x


@pytest.mark.parametrize(("dtype", "message"), [
    ("float16", "cast: dtype is float16, expected float32 or float64 on a CPU: float16 features are for the GPU"),
    ("int64", "cast: dtype is int64, expected float32 or float64"),
])
def test_other_dtypes_are_refused(dtype, message):
    with pytest.raises(TypeError, match=message):
        sn.Tensor(np.ones(2, np.float32)).astype(dtype)


def test_features_and_networks_of_float16_are_refused_on_a_cpu():
    with pytest.raises(TypeError, match="SparseTensor: features are float16, .* convert to float32 or move to cuda"):
        sn.SparseTensor(np.ones((2, 1), np.float16), COORDINATES, (3, 3), 1)
    layer = sn.nn.SparseConv(1, 2, 2)
    with pytest.raises(TypeError, match="SparseConv.to: weight would be float16, .* to float32 or move to cuda"):
        layer.to(dtype="float16")
    assert layer.weight.dtype == np.float32
    x = sn.SparseTensor(np.ones((2, 1), np.float32), COORDINATES, (3, 3), 1)
    assert x.to(dtype="float64").dtype == np.float64 and x.to() is x
    with pytest.raises(TypeError, match="leaky_relu_forward: x is float16, expected float32 or float64 on a CPU"):
        sn.ops.leaky_relu(sn.Tensor(np.ones(2, np.float16)))


# ---- Tensor.to, SparseTensor.to, Module.to ----


def test_a_tensor_is_converted_differentiably():
    x = sn.Tensor(np.ones(2, np.float32), requires_grad=True)
    for arguments in ((np.float64,), ("float64",), ("cpu", np.float64), (np.dtype("f8"),), (None, float)):
        x.grad = None
        y = x.to(*arguments)
        assert y.dtype == np.float64 and y.device == "cpu"
        (y * y).sum().backward()
        assert x.grad.dtype == np.float32 and x.grad.tolist() == [2, 2]
    assert x.to("cpu") is x.to(np.float32) is x.to("cpu", "float32") is x.to() is x


def movable():
    x = sn.SparseTensor(np.ones((2, 1), np.float32), COORDINATES, (3, 3), 1)
    return {"Tensor": sn.Tensor([1.0]), "SparseTensor": x, "SparseConv": sn.nn.SparseConv(1, 2, 2)}


@pytest.mark.parametrize("kind", ["Tensor", "SparseTensor", "SparseConv"])
def test_the_first_argument_is_a_device_or_a_dtype(kind):
    moved = movable()[kind].to(np.float64)
    assert (moved.weight if kind == "SparseConv" else moved).dtype == np.float64
    moved = movable()[kind].to("cpu", dtype="float64")
    assert (moved.weight if kind == "SparseConv" else moved).dtype == np.float64


@pytest.mark.parametrize("kind", ["Tensor", "SparseTensor", "SparseConv"])
@pytest.mark.parametrize(("arguments", "error", "message"), [
    (("gpu",), ValueError, "device is 'cpu' or 'cuda', got 'gpu', which is not a dtype either"),
    ((0,), TypeError, "device is 'cpu' or 'cuda', got 0, which is not a dtype either"),
    ((np.float64, np.float64), TypeError, "device is 'cpu' or 'cuda', got <class 'numpy.float64'>"),
    (("cpu", "flaot32"), TypeError, "dtype is 'flaot32', expected one such as numpy.float64 or 'float32'"),
    (("cpu", ("f4", 2)), TypeError, r"dtype is \('f4', 2\), expected one such as"),
    (("int64",), TypeError, "int64, expected float32 or float64"),
    (("float16",), TypeError, "float16, expected float32 or float64 on a CPU"),
])
def test_what_is_neither_is_refused(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        movable()[kind].to(*arguments)


class CuPyWithTwoGPUs:
    class cuda:
        class runtime:
            getDevice = staticmethod(lambda: 1)


@pytest.mark.parametrize("kind", ["Tensor", "SparseTensor", "SparseConv"])
def test_a_numbered_gpu_is_the_current_one(kind, monkeypatch):
    monkeypatch.setattr("sparsenet.destination.cupy", lambda: CuPyWithTwoGPUs)
    with pytest.raises(ValueError, match=f"{kind}.to: device is 'cuda:0', the current GPU is 'cuda:1': choose another"):
        movable()[kind].to("cuda:0")
    assert device_and_dtype("to", "cuda:1", "float32") == ("cuda", np.float32)


def test_a_numbered_gpu_needs_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it raises
    for moved in movable().values():
        with pytest.raises(RuntimeError, match="device 'cuda' needs CuPy: pip install"):
            moved.to("cuda:0")
