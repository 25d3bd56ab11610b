"""to_dense: the whole grid, the background in every inactive cell."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import ops

SIZES = [(7,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]


def sparse(rng, spatial_size, count=9, dtype=np.float64, channels=3, background="zeros"):
    coordinates = reference.random_coordinates(rng, count, spatial_size, batch_size=3, empty=(1,))
    features = rng.standard_normal((count, channels)).astype(dtype)
    return sn.SparseTensor(features, coordinates, spatial_size, 3, background), features, coordinates


@pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
def test_sites_hold_their_row_and_other_cells_the_background(spatial_size, dtype, rng):
    background = rng.standard_normal(3).astype(dtype)
    x, features, coordinates = sparse(rng, spatial_size, dtype=dtype, background=background)
    dense = ops.to_dense(x)
    assert dense.dtype == dtype and dense.shape == (3, 3, *spatial_size)
    np.testing.assert_array_equal(dense.numpy(), reference.to_grid(features, coordinates, spatial_size, 3, background))


def test_without_background_other_cells_are_zero(rng):
    x, features, coordinates = sparse(rng, (4, 5), background=None)
    np.testing.assert_array_equal(ops.to_dense(x).numpy(), reference.to_grid(features, coordinates, (4, 5), 3))


def test_it_is_a_method_too_and_undoes_from_dense(rng):
    x, *_ = sparse(rng, (4, 5))
    again = sn.SparseTensor.from_dense(x.to_dense().array)
    np.testing.assert_array_equal(again.coordinates, x.coordinates)
    np.testing.assert_array_equal(again.features.array, x.features.array)


def test_a_batch_without_any_site_is_all_background():
    x = sn.SparseTensor(np.zeros((0, 2)), np.zeros((0, 3), np.int32), (2, 2), 2, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(x.to_dense().numpy(), np.broadcast_to([[[[1.0]], [[2.0]]]], (2, 2, 2, 2)))


def test_samples_may_have_backgrounds_of_their_own(rng):
    backgrounds = rng.standard_normal((3, 3))
    x, features, coordinates = sparse(rng, (4, 5), background=backgrounds)
    dense = x.to_dense().numpy()
    for b in range(3):
        expected = reference.to_grid(features, coordinates, (4, 5), 3, backgrounds[b])[b]
        np.testing.assert_array_equal(dense[b], expected)


@pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
@pytest.mark.parametrize("shape", [(3,), (3, 3)], ids=["shared background", "one per sample"])
def test_gradients_of_features_and_background(spatial_size, shape, rng):
    x, features, _ = sparse(rng, spatial_size)
    inputs = [sn.Tensor(features, requires_grad=True), sn.Tensor(rng.standard_normal(shape), requires_grad=True)]
    sn.gradcheck(lambda f, b: ops.to_dense(x.with_features(f, b)), inputs)


def test_the_background_gets_the_sum_over_inactive_cells_and_the_gradient_stays_untouched(rng):
    x, features, coordinates = sparse(rng, (4, 5))
    background = sn.Tensor(np.zeros(3), requires_grad=True)
    x = sn.SparseTensor(features, coordinates, (4, 5), 3, background)
    gradient = rng.standard_normal((3, 3, 4, 5))
    given = gradient.copy()
    x.to_dense().backward(gradient)
    reference.assert_close(background.grad, reference.background_gradient(gradient, coordinates))
    np.testing.assert_array_equal(gradient, given)


def test_a_tensor_is_refused():
    with pytest.raises(TypeError, match="to_dense: x is Tensor, expected a SparseTensor"):
        ops.to_dense(sn.Tensor(np.zeros((2, 2))))
