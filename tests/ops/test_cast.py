"""Conversions between dtypes, and their gradients; float16 has its tests in tests/cuda."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn

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
