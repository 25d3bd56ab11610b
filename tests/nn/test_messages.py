"""Errors of layers, networks, losses and tensors about arguments that make no sense."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import nn, ops

X = sn.SparseTensor(np.ones((2, 1), "f4"), np.array([[0, 0, 0], [0, 1, 1]]), (4, 4), 1)
ROWS = sn.Tensor(np.ones((2, 1), "f4"))


def network():
    return sn.SparseNetwork(dimension=2).add_convolution(2, 2).add_linear(2)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: sn.SparseTensor(np.zeros((2, 0), "f4"), X.coordinates, (4, 4), 1), ValueError,
     r"features have shape \(2, 0\), expected at least one channel"),
    (lambda: sn.SparseTensor.from_dense(np.zeros((1, 0, 4, 4))), ValueError, "expected at least one channel"),
    (lambda: nn.SparseConv(0, 1, 2), ValueError, "SparseConv: in_channels is 0, expected at least 1"),
    (lambda: nn.SubmanifoldConv(1, 0, 3), ValueError, "SubmanifoldConv: out_channels is 0, expected at least"),
    (lambda: nn.Linear(1, -1), ValueError, "Linear: out_features is -1, expected at least 1"),
    (lambda: sn.SparseNetwork(in_channels=0), ValueError, "SparseNetwork: in_channels is 0, expected at least 1"),
    (lambda: sn.SparseNetwork(in_channels=1.5), TypeError, "SparseNetwork: in_channels is 1.5, expected a whole"),
    (lambda: sn.SparseNetwork(dimension=7), ValueError, "dimension is 7, expected 1 to 4"),
    (lambda: sn.SparseNetwork(dimension="a"), ValueError, "dimension is 'a', expected a whole number"),
    (lambda: sn.s3dcnn(channels=3), ValueError, "s3dcnn: channels is 3, expected a sequence"),
    (lambda: sn.s3dcnn(channels="ab"), ValueError, "s3dcnn: channels is 'ab', expected a sequence"),
    (lambda: sn.s3dcnn(channels=(0, 3)), ValueError, "SparseConv: out_channels is 0, expected at least 1"),
    (lambda: nn.LeakyReLU("a"), ValueError, "LeakyReLU: negative_slope is 'a', expected a finite number"),
    (lambda: nn.LeakyReLU(float("nan")), ValueError, "LeakyReLU: negative_slope is nan"),
    (lambda: nn.Dropout("a"), ValueError, "Dropout: p is 'a', expected a finite number"),
    (lambda: nn.Dropout(1), ValueError, "Dropout: p is 1, expected at least 0 and below 1"),
    (lambda: nn.Dropout()(sn.Tensor(np.ones((2, 1), int))), TypeError, "Dropout: the input is int64, expected float"),
    (lambda: nn.SparseConv(1, 1, 2)(X), ValueError, "the layer has 3 dimensions"),
    (lambda: nn.CosineLinear(1, 1)(X), TypeError, "CosineLinear: the input is a SparseTensor, .* put a GlobalPool bef"),
    (lambda: network()(np.ones(3)), TypeError, "SparseNetwork: the input is ndarray, expected a SparseBatch or Sparse"),
    (lambda: network().set_weights({"a": 1}), ValueError, "set_weights: unexpected: a: there are convolution1.weight"),
    (lambda: network().load_state_dict([1]), TypeError, "load_state_dict: state is list, expected a mapping"),
    (lambda: network().set_weights({"linear1.bias": "a"}), ValueError, r"shape of linear1.bias is \(\), expected \(2"),
    (lambda: ops.triplet_loss(ROWS, ROWS, ROWS, "a"), ValueError, "triplet_loss: margin is 'a', expected a finite num"),
    (lambda: ops.triplet_loss(ROWS, ROWS, ROWS, float("nan")), ValueError, "triplet_loss: margin is nan"),
    (lambda: ops.triplet_loss(ROWS, ROWS.array, ROWS, 1), TypeError, "triplet_loss: positive is ndarray, expected a T"),
    (lambda: ops.triplet_loss(*[sn.Tensor(np.zeros((2, 0)))] * 3, 1), ValueError, r"shape \(2, 0\), .*C at least 1"),
    (lambda: ops.softmax_cross_entropy(X, [0, 1]), TypeError, "softmax_cross_entropy: logits is SparseTensor, expec"),
    (lambda: sn.Tensor(["a"]), TypeError, "Tensor: array is <U1, expected real numbers"),
    (lambda: sn.Tensor(np.array([1j])), TypeError, "Tensor: array is complex128, expected real numbers"),
    (lambda: sn.Tensor([None]), TypeError, "Tensor: array is object, expected real numbers"),
    (lambda: list(sn.Tensor(1.0)), TypeError, "Tensor: a single number has no rows to iterate over"),
])
def test_says_what_came_and_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("value", [np.ones((2, 1), "f4"), (X,), None, "text"], ids=["array", "tuple", "None", "text"])
@pytest.mark.parametrize("layer", [nn.SparseConv(1, 1, 2), nn.SubmanifoldConv(1, 1, 3), nn.SparseMaxPool(2),
                                   nn.SparseAvgPool(2), nn.SparseSumPool(2), nn.Upsample(2), nn.LeakyReLU(),
                                   nn.DepthImages(), nn.ImagePool(),
                                   nn.Linear(1, 1), nn.Dropout(), nn.ToDense(), nn.GlobalPool()],
                         ids=lambda layer: layer.kind)
def test_a_layer_names_what_it_was_given(layer, value):
    name = {"ToDense": "to_dense", "GlobalPool": "global_pool"}.get(type(layer).__name__, type(layer).__name__)
    with pytest.raises(TypeError, match=f"^{name}: .* is {type(value).__name__}, expected a (Sparse)?Tensor"):
        layer(value)


def test_a_tensor_is_gone_through_row_by_row():
    assert [row.array.tolist() for row in sn.Tensor([[1.0, 2.0], [3.0, 4.0]])] == [[1, 2], [3, 4]]
    assert list(sn.Tensor(np.zeros((0, 2)))) == []
