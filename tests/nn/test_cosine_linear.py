"""The cosine classifier as a layer: built, listed, saved, predicted with, and embedded before."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import Tensor, nn
from sparsenet.nn.layer_list import grids, network_of
from sparsenet.retrieval import embed
from sparsenet.retrieval.embedding import descriptor_layer


@pytest.fixture
def x(rng):
    return sn.SparseTensor(rng.standard_normal((60, 1)).astype("f4"),
                           reference.random_coordinates(rng, 60, (6,) * 3, 3), (6,) * 3, 3)


def test_its_outputs_are_scaled_cosines(x):
    net = sn.SparseNetwork(seed=1, field=6).add_convolution(4, 2).add_cosine_linear(5, scale=7).eval()
    assert net.names() == ["convolution1", "global_pool1", "cosine_linear1"] and net.out_channels == 5
    assert repr(net.layers[-1]) == "CosineLinear(4 -> 5, scale 7)" and net.gives_rows
    rows, weight = net.run(x, 0, 2).numpy().astype("f8"), net.layers[-1].weight.numpy().astype("f8")
    cosines = rows @ weight / np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(weight, axis=0)
    np.testing.assert_allclose(net(x).numpy(), 7 * cosines, rtol=1e-5)
    exponentials = np.exp(7 * cosines)
    np.testing.assert_allclose(net.predict(x), exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-5)
    assert descriptor_layer(net) == 1
    np.testing.assert_allclose(embed(net, x), rows, rtol=1e-6)


def test_it_is_a_kind_of_layer_and_its_weights_are_saved(tmp_path, x):
    layers = [{"kind": "convolution", "channels": 4, "size": 2}, {"kind": "cosine_linear", "channels": 5, "scale": 7}]
    net = network_of(layers, seed=1)
    built = sn.SparseNetwork(seed=1).add_convolution(4, 2).add_cosine_linear(5, 7)
    assert {name: array.tobytes() for name, array in net.get_weights().items()} == {
        name: array.tobytes() for name, array in built.get_weights().items()}
    assert list(net.get_weights())[-1] == "cosine_linear1.weight" and grids(net, (6, 6, 6))[-1] == ()
    net.save_weights(tmp_path / "weights.h5")
    other = network_of(layers, seed=2)
    other.load_weights(tmp_path / "weights.h5")
    assert other(x).numpy().tobytes() == net(x).numpy().tobytes()


def test_what_it_is_not_given(x):
    with pytest.raises(ValueError, match="CosineLinear: scale is 0, expected a finite number above 0"):
        nn.CosineLinear(3, 2, scale=0)
    with pytest.raises(TypeError, match="CosineLinear: in_features is 1.5"):
        nn.CosineLinear(1.5, 2)
    with pytest.raises(TypeError, match="put a GlobalPool before it"):
        nn.CosineLinear(1, 2)(x)
    with pytest.raises(ValueError, match="x has 3 channels, the weights expect 4"):
        nn.CosineLinear(4, 2)(Tensor(np.ones((2, 3), "f4")))
