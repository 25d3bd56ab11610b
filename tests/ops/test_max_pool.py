"""Sparse max-pooling equals dense max-pooling at every active and inactive cell."""

import numpy as np
import pytest
import reference

from sparsenet import SparseTensor, Tensor, gradcheck
from sparsenet.ops import max_pool
from sparsenet.sparse import Geometry


@pytest.mark.parametrize(("dimension", "side", "size", "stride"),
                         [(1, 9, 3, 2), (2, 7, 3, 2), (2, 6, 2, 2), (3, 7, 3, 2), (3, 6, 2, 1), (4, 5, 3, 2),
                          (2, 9, 2, 3)])
@pytest.mark.parametrize("level", [0.0, -2.0, 0.3])
def test_equals_the_dense_pooling(dimension, side, size, stride, level):
    rng = np.random.default_rng(dimension)
    spatial_size = (side,) * dimension
    coordinates = reference.random_coordinates(rng, min(20, side**dimension), spatial_size, 3, empty=(0,))
    features = Tensor(rng.standard_normal((len(coordinates), 4)), requires_grad=True)
    ground = Tensor(level + 0.1 * rng.standard_normal(4), requires_grad=True)
    y = max_pool(SparseTensor(features, coordinates, spatial_size, 3, ground), Geometry.make(dimension, size, stride))
    grid = reference.to_grid(features.array, coordinates, spatial_size, 3, ground.array)
    expected, chosen = reference.max_pool(grid, size, stride)
    assert np.array_equal(y.to_dense().array, expected)

    gradient = rng.standard_normal(expected.shape)
    y.to_dense().backward(gradient)
    to_grid = reference.max_pool_backward(gradient, chosen, spatial_size, size, stride)
    np.testing.assert_allclose(features.grad, reference.from_grid(to_grid, coordinates), atol=1e-12)
    np.testing.assert_allclose(ground.grad, reference.background_gradient(to_grid, coordinates), atol=1e-12)


def test_negative_values_are_kept_where_inactive_cells_are_skipped():
    x = SparseTensor(np.array([[-1.0], [-2.0]]), np.array([[0, 0], [0, 2]]), (4,), 1, background=None)
    y = max_pool(x, Geometry.make(1, 2, 2))
    assert y.background is None and y.features.array.tolist() == [[-1.0], [-2.0]]


def test_ties_go_to_the_first_offset_also_for_the_background():
    features = Tensor(np.array([[1.0], [1.0]]), requires_grad=True)
    ground = Tensor(np.array([1.0]), requires_grad=True)
    x = SparseTensor(features, np.array([[0, 1], [0, 2]]), (3,), 1, ground)
    max_pool(x, Geometry.make(1, 3)).features.sum().backward()
    assert features.grad.tolist() == [[0.0], [0.0]] and ground.grad.tolist() == [1.0]


def test_gradients_by_differences_with_a_background_for_each_sample():
    rng = np.random.default_rng(0)
    coordinates = reference.random_coordinates(rng, 20, (5, 5), 2)
    inputs = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((20, 3), (2, 3))]

    def function(features, ground):
        return max_pool(SparseTensor(features, coordinates, (5, 5), 2, ground), Geometry.make(2, 3, 2)).features

    assert gradcheck(function, inputs)


@pytest.mark.parametrize(("background", "to_features", "to_background"),
                         [(None, [[1.0], [0.0]], None), (-np.inf, [[0.0], [0.0]], 1.0), (-1e300, [[0.0], [0.0]], 1.0)])
def test_a_maximum_over_nothing_but_minus_infinity(background, to_features, to_background):
    ground = None if background is None else Tensor(np.full(1, background), requires_grad=True)
    features = Tensor(np.full((2, 1), -np.inf), requires_grad=True)
    y = max_pool(SparseTensor(features, np.array([[0, 1], [0, 2]]), (3,), 1, ground), Geometry.make(1, 3))
    y.features.backward(np.ones((1, 1)))
    assert y.features.array.tolist() == [[-np.inf if background is None else background]]
    assert features.grad.tolist() == to_features and (ground is None or ground.grad.item() == to_background)


def test_of_a_full_window_of_minus_infinity_the_first_cell_gets_the_gradient():
    features, ground = Tensor(np.full((2, 1), -np.inf), requires_grad=True), Tensor(np.zeros(1), requires_grad=True)
    y = max_pool(SparseTensor(features, np.array([[0, 0], [0, 1]]), (2,), 1, ground), Geometry.make(1, 2))
    y.features.backward(np.ones((1, 1)))
    assert y.features.array.tolist() == [[-np.inf]]
    assert features.grad.tolist() == [[1.0], [0.0]] and ground.grad.tolist() == [0.0]


def test_what_is_refused():
    x = SparseTensor(np.zeros((1, 1)), np.array([[0, 1, 1]]), (4, 4), 1)
    with pytest.raises(ValueError, match=r"padding is \(2, 2\), expected at most \(1, 1\), half a window"):
        max_pool(x, Geometry.make(2, 3, padding=2))
    with pytest.raises(ValueError, match="expected one that is not submanifold"):
        max_pool(x, Geometry.make_submanifold(2, 1))
    with pytest.raises(TypeError, match="expected a SparseTensor"):
        max_pool(x.features, Geometry.make(2, 2))
