"""global_pool equals the dense pooling of a grid whose inactive cells hold the background."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import ops

MODES = ["mean", "max", "sum"]
SIZES = [(7,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]


def sparse(rng, spatial_size, dtype=np.float64, background="zeros"):
    coordinates = reference.random_coordinates(rng, 9, spatial_size, batch_size=3, empty=(1,))
    features = rng.standard_normal((9, 3)).astype(dtype)
    return sn.SparseTensor(features, coordinates, spatial_size, 3, background), features, coordinates


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
def test_equals_the_dense_pool_in_values_and_gradients(mode, spatial_size, dtype, rng):
    background = sn.Tensor(rng.standard_normal(3).astype(dtype), requires_grad=True)
    x, features, coordinates = sparse(rng, spatial_size, dtype, background)
    x.features.requires_grad = True
    y = ops.global_pool(x, mode)
    grid = reference.to_grid(features, coordinates, spatial_size, 3, background.array)
    reference.assert_close(y, reference.global_pool(grid, mode))

    gradient = rng.standard_normal((3, 3)).astype(dtype)
    y.backward(gradient)
    grid_gradient = reference.global_pool_backward(gradient, grid, mode)
    reference.assert_close(x.features.grad, reference.from_grid(grid_gradient, x.coordinates))
    reference.assert_close(background.grad, reference.background_gradient(grid_gradient, coordinates))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(3,), (3, 3)], ids=["shared background", "one per sample"])
def test_gradcheck(mode, shape, rng):
    x, features, _ = sparse(rng, (4, 5))
    inputs = [sn.Tensor(features, requires_grad=True), sn.Tensor(rng.standard_normal(shape), requires_grad=True)]
    sn.gradcheck(lambda f, b: ops.global_pool(x.with_features(f, b), mode), inputs)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck_without_background(mode, rng):
    x, features, _ = sparse(rng, (4, 5))
    sn.gradcheck(lambda f: ops.global_pool(x.with_features(f, None), mode), [sn.Tensor(features, requires_grad=True)])


def test_without_background_only_sites_count_and_an_empty_sample_gives_zeros(rng):
    x, features, coordinates = sparse(rng, (4, 5), background=None)
    for mode in MODES:
        y = ops.global_pool(x, mode).numpy()
        for b in range(3):
            rows = features[coordinates[:, 0] == b]
            expected = getattr(rows, mode)(axis=0) if len(rows) else np.zeros(3)
            np.testing.assert_allclose(y[b], expected, rtol=1e-12)


def test_an_empty_sample_gives_the_background():
    x = sn.SparseTensor(np.zeros((0, 2)), np.zeros((0, 3), np.int32), (2, 3), 2, np.array([1.5, -2.0]))
    assert ops.global_pool(x, "mean").numpy().tolist() == [[1.5, -2.0]] * 2
    assert ops.global_pool(x, "max").numpy().tolist() == [[1.5, -2.0]] * 2
    assert ops.global_pool(x, "sum").numpy().tolist() == [[9.0, -12.0]] * 2


def test_the_background_competes_only_where_a_cell_is_inactive():
    full = sn.SparseTensor(-np.ones((2, 1)), np.array([[0, 0], [0, 1]]), (2,), 1, np.zeros(1))
    assert ops.global_pool(full, "max").numpy().tolist() == [[-1.0]]
    partly = sn.SparseTensor(-np.ones((1, 1)), np.array([[0, 1]]), (2,), 1, np.zeros(1))
    assert ops.global_pool(partly, "max").numpy().tolist() == [[0.0]]


@pytest.mark.parametrize(("cell", "to_site"), [(0, 1.0), (1, 0.0)])
def test_of_a_site_and_a_background_that_are_equal_the_first_cell_gets_the_gradient(cell, to_site):
    background = sn.Tensor(np.zeros(1), requires_grad=True)
    x = sn.SparseTensor(np.zeros((1, 1)), np.array([[0, cell]]), (3,), 1, background)
    x.features.requires_grad = True
    ops.global_pool(x, "max").backward(np.ones((1, 1)))
    assert (x.features.grad.item(), background.grad.item()) == (to_site, 1 - to_site)


def test_each_sample_counts_its_own_first_cells():
    background = sn.Tensor(np.zeros(1), requires_grad=True)
    x = sn.SparseTensor(np.zeros((3, 1)), np.array([[0, 0], [0, 1], [1, 1]]), (3,), 2, background)
    x.features.requires_grad = True
    ops.global_pool(x, "max").backward(np.ones((2, 1)))  # sample 1 begins with an inactive cell
    assert x.features.grad.ravel().tolist() == [1.0, 0.0, 0.0] and background.grad.tolist() == [1.0]


@pytest.mark.parametrize("site", [0, 2, 4])
def test_a_site_that_is_not_a_number_is_the_maximum_and_gets_the_gradient(site, rng):
    features = rng.standard_normal((5, 1))
    features[site] = np.nan
    x = sn.SparseTensor(sn.Tensor(features, requires_grad=True), np.array([[0, i] for i in range(5)]), (9,), 1)
    y = ops.global_pool(x, "max")
    y.backward(np.ones((1, 1)))
    assert np.isnan(y.item()) and x.features.grad.ravel().tolist() == [float(i == site) for i in range(5)]


def test_a_background_that_is_not_a_number_is_the_maximum_where_a_cell_is_inactive():
    background = sn.Tensor(np.full(1, np.nan), requires_grad=True)
    x = sn.SparseTensor(np.ones((3, 1)), np.array([[0, 1], [1, 0], [1, 1]]), (2,), 2, background)  # sample 1 is full
    y = ops.global_pool(x, "max")
    y.backward(np.ones((2, 1)))
    np.testing.assert_array_equal(y.numpy(), [[np.nan], [1.0]])
    assert background.grad.tolist() == [1.0]


@pytest.mark.parametrize(("cell", "to_site"), [(0, 1.0), (1, 0.0)])
def test_of_a_site_and_a_background_that_are_no_numbers_the_first_cell_gets_the_gradient(cell, to_site):
    background = sn.Tensor(np.full(1, np.nan), requires_grad=True)
    x = sn.SparseTensor(sn.Tensor(np.full((1, 1), np.nan), requires_grad=True), np.array([[0, cell]]), (3,), 1,
                        background)
    ops.global_pool(x, "max").backward(np.ones((1, 1)))
    assert (x.features.grad.item(), background.grad.item()) == (to_site, 1 - to_site)


@pytest.mark.parametrize(("background", "winner"), [(None, 1), (-np.inf, 1), (-1e300, None)])
def test_a_maximum_over_nothing_but_minus_infinity(background, winner):
    ground = None if background is None else sn.Tensor(np.full(1, background), requires_grad=True)
    features = sn.Tensor(np.array([[3.0], [-np.inf], [-np.inf]]), requires_grad=True)
    x = sn.SparseTensor(features, np.array([[0, 0], [1, 0], [1, 3]]), (4,), 2, ground)
    y = ops.global_pool(x, "max")
    y.backward(np.ones((2, 1)))
    assert y.numpy().tolist() == [[3.0], [-np.inf if winner else background]]
    assert features.grad.ravel().tolist() == [1.0, float(winner == 1), 0.0]  # of equal ones the first
    assert ground is None or ground.grad.item() == float(winner is None)


def test_on_one_cell_every_row_comes_back_bit_for_bit(rng):
    features, background = rng.standard_normal((1, 4)).astype("f4"), rng.standard_normal(4).astype("f4")
    x = sn.SparseTensor(features, np.array([[1, 0, 0]]), (1, 1), 2, background)
    np.testing.assert_array_equal(ops.global_pool(x, "mean").numpy(), [background, features[0]])


def test_an_unknown_mode_and_a_dense_tensor_are_refused(rng):
    x, *_ = sparse(rng, (7,))
    with pytest.raises(ValueError, match="global_pool: mode is 'median', expected one of mean, max, sum"):
        ops.global_pool(x, "median")
    with pytest.raises(TypeError, match="global_pool: x is Tensor, expected a SparseTensor"):
        ops.global_pool(x.features, "mean")
