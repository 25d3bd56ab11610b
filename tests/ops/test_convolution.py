"""Sparse convolution equals dense convolution at every active and inactive cell, values and gradients."""

import numpy as np
import pytest
import reference

from sparsenet import SparseTensor, Tensor, gradcheck
from sparsenet.ops import convolution
from sparsenet.sparse import Geometry

CASES = [  # dimension, side, size, stride, padding, dilation
    (1, 9, 3, 2, 1, 1),
    (1, 6, 2, 1, 0, 3),
    (2, 7, 3, 1, 0, 1),
    (2, 8, (2, 3), (1, 2), (1, 0), (2, 1)),
    (3, 6, 2, 1, 0, 1),
    (3, 6, 3, 2, 1, 1),
    (3, 5, 2, 2, 0, 1),
    (4, 4, 2, 1, 0, 1),
    (4, 4, 3, 2, 1, 1),
]


def tensors(dimension, side, size, c_in=3, c_out=4, dtype=np.float64, count=11, background=True, seed=0):
    rng = np.random.default_rng(seed)
    spatial_size, batch = (side,) * dimension, 3
    coordinates = reference.random_coordinates(rng, min(count, side**dimension), spatial_size, batch, empty=(1,))
    volume = int(np.prod(reference.per_axis(size, dimension)))
    draw = lambda *shape: Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)  # noqa: E731
    features, weight, bias = draw(len(coordinates), c_in), draw(volume, c_in, c_out), draw(c_out)
    ground = draw(c_in) if background else None
    x = SparseTensor(features, coordinates, spatial_size, batch, ground if background else "zeros")
    return x, coordinates, features, ground, weight, bias


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("background", [True, False])
def test_equals_the_dense_convolution(case, background):
    dimension, side, *filter_ = case
    x, coordinates, features, ground, weight, bias = tensors(dimension, side, filter_[0], background=background)
    y = convolution(x, weight, bias, Geometry.make(dimension, *filter_))
    level = np.zeros(3) if ground is None else ground.array
    grid = reference.to_grid(features.array, coordinates, x.spatial_size, 3, level)
    expected = reference.convolution(grid, weight.array, bias.array, *filter_, background=level)
    np.testing.assert_allclose(y.to_dense().array, expected, rtol=1e-12, atol=1e-12)

    gradient = np.random.default_rng(1).standard_normal(expected.shape)
    y.to_dense().backward(gradient)
    to_grid, to_weight, to_bias, to_padding = reference.convolution_backward(
        gradient, grid, weight.array, *filter_, background=level)
    np.testing.assert_allclose(features.grad, reference.from_grid(to_grid, coordinates), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(weight.grad, to_weight, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(bias.grad, to_bias, rtol=1e-12, atol=1e-12)
    if background:
        inactive = reference.background_gradient(to_grid, coordinates)
        np.testing.assert_allclose(ground.grad, inactive + to_padding, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("case", CASES[3:7])
def test_gradients_by_differences(case):
    dimension, side, *filter_ = case
    x, coordinates, features, ground, weight, bias = tensors(dimension, side, filter_[0])
    geometry = Geometry.make(dimension, *filter_)

    def function(features, ground, weight, bias):
        x = SparseTensor(features, coordinates, (side,) * dimension, 3, ground)
        y = convolution(x, weight, bias, geometry)
        return y.features, y.background

    assert gradcheck(function, [features, ground, weight, bias])


def test_submanifold_treats_cells_outside_the_sites_as_background():
    x, coordinates, features, ground, weight, bias = tensors(3, 5, 3, count=30)
    geometry = Geometry.make_submanifold(3, 3)
    y = convolution(x, weight, bias, geometry)
    assert y.sites is x.sites
    grid = reference.to_grid(features.array, coordinates, (5, 5, 5), 3, ground.array)
    dense = reference.convolution(grid, weight.array, bias.array, 3, padding=1, background=ground.array)
    np.testing.assert_allclose(y.features.array, reference.from_grid(dense, x.coordinates), rtol=1e-12, atol=1e-12)

    def function(features, ground, weight, bias):
        y = convolution(SparseTensor(features, coordinates, (5, 5, 5), 3, ground), weight, bias, geometry)
        return y.features, y.background

    assert gradcheck(function, [features, ground, weight, bias])


def test_without_background_inactive_cells_are_skipped():
    x, coordinates, features, _, weight, bias = tensors(2, 6, 3)
    x = SparseTensor(features, coordinates, (6, 6), 3, background=None)
    geometry = Geometry.make(2, 3, 2, 1)
    y = convolution(x, weight, bias, geometry)
    assert y.background is None
    expected = np.zeros((len(y), 4)) + bias.array
    for n, m, k in ((n, m, k) for m, row in enumerate(y_neighbours(x, geometry)) for k, n in enumerate(row) if n >= 0):
        expected[m] += x.features.array[n] @ weight.array[k]
    np.testing.assert_allclose(y.features.array, expected, rtol=1e-12)

    def function(features, weight, bias):
        return convolution(SparseTensor(features, coordinates, (6, 6), 3, None), weight, bias, geometry).features

    assert gradcheck(function, [features, weight, bias])


def y_neighbours(x, geometry):
    return x.sites.rulebook(geometry).neighbours.tolist()


def test_a_background_for_each_sample():
    x, coordinates, features, _, weight, bias = tensors(2, 6, 3)
    ground = Tensor(np.random.default_rng(3).standard_normal((3, 3)), requires_grad=True)
    geometry = Geometry.make(2, 3, 2, 1)
    y = convolution(x.with_features(x.features, ground), weight, bias, geometry)
    assert y.background.shape == (3, 4)
    for b in range(3):
        mine = coordinates[:, 0] == b
        sites = coordinates[mine] * [0, 1, 1]
        alone = SparseTensor(features.array[mine], sites, (6, 6), 1, ground.array[b])
        expected = convolution(alone, weight, bias, geometry)
        np.testing.assert_allclose(y.background.array[b], expected.background.array, rtol=1e-12)
        np.testing.assert_allclose(y.to_dense().array[b], expected.to_dense().array[0], rtol=1e-12)

    def function(features, ground, weight, bias):
        x = SparseTensor(features, coordinates, (6, 6), 3, ground)
        y = convolution(x, weight, bias, geometry)
        return y.features, y.background

    assert gradcheck(function, [features, ground, weight, bias])


def test_an_impulse_comes_out_as_the_filter_reversed():
    x = SparseTensor(np.ones((1, 1)), np.array([[0, 3, 3]]), (7, 7), 1)
    weight = Tensor(np.arange(9.0).reshape(9, 1, 1))
    dense = convolution(x, weight, None, Geometry.make(2, 3)).to_dense().array[0, 0]
    assert np.array_equal(dense[1:4, 1:4], np.arange(9.0).reshape(3, 3)[::-1, ::-1])


def test_no_sites_at_all_still_gives_the_background():
    x = SparseTensor(np.zeros((0, 2)), [], (5, 5), 2, background=np.array([1.0, 2.0]))
    weight, bias = Tensor(np.ones((4, 2, 3)), requires_grad=True), Tensor(np.zeros(3), requires_grad=True)
    y = convolution(x, weight, bias, Geometry.make(2, 2))
    assert len(y) == 0 and np.array_equal(y.background.array, [12.0] * 3)
    y.background.sum().backward()
    assert np.array_equal(bias.grad, np.ones(3)) and np.array_equal(weight.grad[0], [[1] * 3, [2] * 3])


def test_only_the_gradients_asked_for():
    x, *_, weight, bias = tensors(2, 6, 3)
    features = x.features.detach()
    y = convolution(x.with_features(features, x.background.detach()), weight, bias, Geometry.make(2, 3))
    y.features.sum().backward()
    assert features.grad is None and weight.grad is not None and bias.grad is not None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, w, b, g: convolution(x, Tensor(np.zeros((9, 4, 2))), b, g), ValueError,
         "features have 3 channels, the weights expect 4: build the layer with in_channels=3"),
        (lambda x, w, b, g: convolution(x, Tensor(np.zeros((8, 3, 2))), b, g), ValueError,
         r"expected \(9, C_in, C_out\)"),
        (lambda x, w, b, g: convolution(x, Tensor(w.array.astype(np.float32)), None, g), TypeError,
         "the weights float32"),
        (lambda x, w, b, g: convolution(x.features, w, b, g), TypeError, "expected a SparseTensor"),
        (lambda x, w, b, g: convolution(x, w, b, Geometry.make(2, 3, dilation=4)), ValueError, "does not fit a grid"),
    ],
)
def test_what_is_refused(change, error, message):
    x, *_, weight, bias = tensors(2, 6, 3)
    with pytest.raises(error, match=message):
        change(x, weight, bias, Geometry.make(2, 3))
