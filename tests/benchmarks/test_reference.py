"""The benchmark's references, against the dense ones of the tests."""

from __future__ import annotations

import numpy as np
import pytest
import reference as dense

from benchmarks import reference
from benchmarks.workloads import GRID, WORKLOADS
from sparsenet.nn import s3dcnn
from sparsenet.nn.architectures import SLOPE
from sparsenet.nn.layers import SparseConv
from sparsenet.sparse import Geometry, SparseTensor

SIDE = 7


@pytest.mark.parametrize("geometry", [Geometry.make(3, 3, 2), Geometry.make(3, 2, 2), Geometry.make(3, 3, 1, 1),
                                      Geometry.make(3, 2, 1, 0, 2)], ids=str)
def test_convolution_is_the_dense_one_at_the_active_outputs(rng, geometry):
    coordinates = dense.random_coordinates(rng, 60, (SIDE,) * 3, 2)
    features = rng.standard_normal((60, 3))
    weight = rng.standard_normal((geometry.volume, 3, 4))
    oracle = reference.Convolution(coordinates, (SIDE,) * 3, geometry)
    settings = geometry.size, geometry.stride, geometry.padding, geometry.dilation
    grid = dense.to_grid(features, coordinates, (SIDE,) * 3, 2)
    full = dense.convolution(grid, weight, None, *settings)
    at = oracle.output_coordinates
    dense.assert_close(oracle.forward(features, weight), dense.from_grid(full, at))
    mask = dense.active_outputs(dense.occupancy(coordinates, (SIDE,) * 3, 2), *settings)
    assert np.array_equal(at, np.argwhere(mask))

    gradient = rng.standard_normal((len(at), 4))
    upstream = dense.to_grid(gradient, at, oracle.output_size, 2)
    back = dense.convolution_backward(upstream, grid, weight, *settings)
    dense.assert_close(oracle.input_gradient(gradient, weight), dense.from_grid(back[0], coordinates))
    dense.assert_close(oracle.weight_gradient(features, gradient), back[1])


def test_submanifold_outputs_are_the_inputs(rng):
    coordinates = dense.random_coordinates(rng, 60, (SIDE,) * 3, 2)
    oracle = reference.Convolution(coordinates, (SIDE,) * 3, Geometry.make_submanifold(3, 3))
    assert np.array_equal(oracle.output_coordinates, coordinates[np.lexsort(coordinates.T[::-1])])


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_workloads_are_what_they_are_said_to_be(workload):
    coordinates = workload.coordinates()
    keys = np.ravel_multi_index(tuple(coordinates[:, 1:].T), GRID)
    assert coordinates.shape == (20_000, 4)
    assert (np.diff(keys) > 0).all()
    layer = workload.layer(np.zeros((workload.size**3, 32, 64), np.float32))
    pairs = reference.Convolution(coordinates, GRID, layer.geometry).pair_count
    expected = {"submanifold 3^3, surface": 372_288, "submanifold 3^3, random": 58_026,
                "2^3 stride 2, random": 20_000, "2^3 stride 2, surface": 20_000, "3^3 stride 2, random": 61_197}
    assert pairs == expected[workload.name]


def test_max_pooling_is_the_dense_one(rng):
    geometry = Geometry.make(3, 3, 2)
    coordinates = dense.random_coordinates(rng, 80, (SIDE,) * 3, 1)
    features = rng.integers(-3, 4, (80, 2)).astype(np.float32)  # with ties
    background = np.array([-1.0, 2.0], np.float32)
    x = SparseTensor(features, coordinates, (SIDE,) * 3, 1, background)
    rulebook = x.sites.rulebook(geometry)
    values, chosen = reference.specified("max_pool_forward", x.features.array, background[None], rulebook.neighbours,
                                         rulebook.output_sites.coordinates)
    assert values.dtype == np.float64
    grid = dense.to_grid(features, coordinates, (SIDE,) * 3, 1, background)
    full, full_chosen = dense.max_pool(grid, 3, 2)
    at = rulebook.output_sites.coordinates
    assert np.array_equal(values, dense.from_grid(full, at))
    assert np.array_equal(chosen, dense.from_grid(full_chosen, at))

    gradient = rng.standard_normal(values.shape)
    upstream = dense.to_grid(gradient, at, rulebook.output_size, 1)
    back = dense.max_pool_backward(upstream, full_chosen, (SIDE,) * 3, 3, 2)
    to_features, _ = reference.specified("max_pool_backward", gradient, chosen, rulebook, None)
    dense.assert_close(to_features, dense.from_grid(back, x.coordinates))


def test_the_dense_descriptor_is_the_network_s(rng):
    net = s3dcnn(channels=(3, 4, 5))
    field = net.field[0]
    x = SparseTensor(np.ones((40, 1), np.float32), dense.random_coordinates(rng, 40, net.field, 1), net.field, 1)
    layers = [layer for layer in net.layers if isinstance(layer, SparseConv)]
    expected = reference.dense_descriptor(x.coordinates, field, [layer.weight.array for layer in layers],
                                          [layer.bias.array for layer in layers], SLOPE)
    assert reference.relative_error(net(x).numpy()[0], expected) < 1e-5


def test_a_result_that_is_off_stops_the_benchmark():
    expected = np.linspace(-1, 1, 100)
    reference.check("pass", expected + 1e-6, expected)
    with pytest.raises(RuntimeError, match="pass differs from the reference by 0.01 .* nothing was timed"):
        reference.check("pass", expected + 0.01, expected)
    with pytest.raises(RuntimeError):
        reference.check("pass", expected * np.nan, expected)
    with pytest.raises(RuntimeError, match="inf"):
        reference.check("pass", expected[:-1], expected)
