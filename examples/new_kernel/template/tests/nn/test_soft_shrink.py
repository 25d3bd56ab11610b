"""Soft shrinkage as an operation and as a layer: values, gradients, in networks, exported."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet.nn.layer_list import network_of

LIMIT = 0.3


def dense(x):
    """The formula on any array, in float64."""
    return np.sign(x) * np.maximum(np.abs(np.asarray(x, np.float64)) - LIMIT, 0)


def sparse(rng, dtype=np.float32):
    coordinates = reference.random_coordinates(rng, 20, (7, 7), 3, empty=(1,))
    return sn.SparseTensor(rng.standard_normal((20, 2)).astype(dtype), coordinates, (7, 7), 3,
                           np.array([0.7, -0.2], dtype))


@pytest.mark.parametrize("shape", [(), (4,), (3, 5), (2, 3, 4), (0, 3)], ids=str)
def test_of_a_tensor_of_any_shape(shape, rng, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    y = sn.ops.soft_shrink(sn.Tensor(x), LIMIT)
    assert y.shape == shape and y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), dense(x), rtol=0, atol=1e-6)


def test_every_cell_of_a_sparse_tensor_is_mapped(rng):
    x = sparse(rng)
    y = sn.ops.soft_shrink(x, LIMIT)
    np.testing.assert_allclose(y.to_dense().numpy(), dense(x.to_dense().numpy()), rtol=0, atol=1e-6)
    assert sn.ops.soft_shrink(x.with_features(x.features, None)).background is None


def test_gradients_of_features_and_background(rng):
    x = sparse(rng, np.float64)
    x = x.with_features(sn.Tensor(x.features.array, requires_grad=True),
                        sn.Tensor(x.background.array, requires_grad=True))
    assert sn.gradcheck(lambda x: sn.ops.soft_shrink(x, LIMIT), [x])


def test_strided_arrays_stay_untouched(rng):
    x = sn.Tensor(rng.standard_normal((4, 6))[:, ::2], requires_grad=True)
    before = x.numpy().copy()
    sn.ops.soft_shrink(x, LIMIT).sum().backward()
    assert np.array_equal(x.numpy(), before) and np.array_equal(x.grad, np.abs(before) > LIMIT)


@pytest.mark.parametrize(("x", "limit", "error", "message"), [
    (np.ones(2), 0.5, TypeError, "SoftShrink: the input is ndarray, expected a Tensor or SparseTensor"),
    (sn.Tensor(np.ones(2)), -1, ValueError, "SoftShrink: limit is -1, expected a finite number of at least 0"),
    (sn.Tensor(np.ones(2)), np.inf, ValueError, "SoftShrink: limit is inf"),
    (sn.Tensor(np.ones(2)), "1", ValueError, "SoftShrink: limit is '1'"),
], ids=["an array", "negative", "infinite", "a text"])
def test_what_is_refused(x, limit, error, message):
    with pytest.raises(error, match=message):
        sn.ops.soft_shrink(x, limit)


def test_the_layer_in_networks_built_by_hand_and_from_a_list(rng):
    net = sn.SparseNetwork(dimension=2, in_channels=2).add_soft_shrink(LIMIT)
    assert type(net.layers[0]) is sn.nn.SoftShrink and net.names() == ["soft_shrink1"] and net.out_channels == 2
    assert repr(net.layers[0]) == "SoftShrink(0.3)"
    x = sparse(rng)
    expected = sn.ops.soft_shrink(x, LIMIT).features.array
    listed = network_of([{"kind": "soft_shrink", "limit": LIMIT}], 2, 2)
    assert np.array_equal(net(x).features.array, expected) and np.array_equal(listed(x).features.array, expected)
    assert [record.name for record in net.activations(x)] == ["soft_shrink1"] and "soft_shrink1" in str(net.summary(x))
    assert "soft_shrink1" in str(sn.inspect.trace(net, x))


@pytest.mark.extra("onnx-test")
def test_onnxruntime_computes_the_same(rng, tmp_path):
    import onnxruntime

    net, x = sn.SparseNetwork(dimension=2, in_channels=2, field=7).add_soft_shrink(LIMIT), sparse(rng)
    sn.export.onnx(net, tmp_path / "net.onnx", background=x.background.array)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["output"], {"grid": x.to_dense().numpy()})
    np.testing.assert_allclose(found, net(x).to_dense().numpy(), rtol=0, atol=1e-6)


def test_pytorch_computes_the_same(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: the export to it is not compared")
    net, x = sn.SparseNetwork(dimension=2, in_channels=2, field=7).add_soft_shrink(LIMIT), sparse(rng)
    module = sn.export.to_torch(net)
    found = module(torch.from_numpy(x.to_dense().numpy())).numpy()
    np.testing.assert_allclose(found, net(x).to_dense().numpy(), rtol=0, atol=1e-6)
