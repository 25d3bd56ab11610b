"""add: the union of sites; a site that only one has meets the other's background."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import ops

SIZES = [(7,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]


def sparse(rng, spatial_size=(4, 5), count=8, background="random", dtype=np.float64):
    coordinates = reference.random_coordinates(rng, count, spatial_size, batch_size=3, empty=(1,))
    features = rng.standard_normal((count, 2)).astype(dtype)
    if isinstance(background, str):
        background = rng.standard_normal(2).astype(dtype)
    return sn.SparseTensor(features, coordinates, spatial_size, 3, background)


@pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
def test_equals_the_sum_of_the_grids_on_the_union_of_sites(spatial_size, dtype, rng):
    x, y = sparse(rng, spatial_size, 8, dtype=dtype), sparse(rng, spatial_size, 6, dtype=dtype)
    z = ops.add(x, y)
    assert z.dtype == dtype
    np.testing.assert_array_equal(z.to_dense().numpy(), x.to_dense().numpy() + y.to_dense().numpy())
    union = {tuple(site) for site in (*x.coordinates.tolist(), *y.coordinates.tolist())}
    assert [tuple(site) for site in z.coordinates.tolist()] == sorted(union)
    np.testing.assert_array_equal((x + y).features.numpy(), z.features.numpy())


@pytest.mark.parametrize("shapes", [((2,), (2,)), ((3, 2), (2,)), ((3, 2), (3, 2))], ids=str)
def test_gradients_of_features_and_backgrounds(shapes, rng):
    x, y = sparse(rng, count=8), sparse(rng, count=6)
    arrays = [x.features.array, y.features.array, *(rng.standard_normal(shape) for shape in shapes)]

    def function(f, g, b, c):
        return ops.add(x.with_features(f, b), y.with_features(g, c)).to_dense()

    sn.gradcheck(function, [sn.Tensor(array, requires_grad=True) for array in arrays])


def test_gradients_reach_a_background_that_only_the_output_reads(rng):
    x, y = sparse(rng), sparse(rng)
    x.background.requires_grad = y.background.requires_grad = True
    ops.add(x, y).background.backward(np.array([1.0, 2.0]))
    assert x.background.grad.tolist() == y.background.grad.tolist() == [1.0, 2.0]


def test_without_background_a_missing_row_adds_nothing(rng):
    x, y = sparse(rng, background=None), sparse(rng, background=None)
    z = ops.add(x, y)
    assert z.background is None
    np.testing.assert_array_equal(z.to_dense().numpy(), x.to_dense().numpy() + y.to_dense().numpy())

    def function(f, g):
        return ops.add(x.with_features(f, None), y.with_features(g, None)).features

    sn.gradcheck(function, [sn.Tensor(t.features.array, requires_grad=True) for t in (x, y)])


def test_equal_sites_are_shared_with_their_rulebooks(rng):
    x = sparse(rng)
    y = sn.SparseTensor(x.features.array, x.coordinates, x.spatial_size, 3)
    assert ops.add(x, y).sites is x.sites
    np.testing.assert_array_equal(ops.add(x, x).features.numpy(), 2 * x.features.numpy())


@pytest.mark.parametrize("background", ["random", None])
def test_where_one_has_all_the_sites_the_sum_stands_on_them(background, rng):
    x = sparse(rng, background=background)
    some = np.sort(rng.choice(len(x.sites), 5, replace=False))
    y = sn.SparseTensor(x.features.array[some], x.coordinates[some], x.spatial_size, 3, x.background)
    for first, second in ((x, y), (y, x)):
        z = ops.add(first, second)
        assert z.sites is x.sites
        np.testing.assert_array_equal(z.to_dense().numpy(), x.to_dense().numpy() + y.to_dense().numpy())

    def function(f, g):
        return ops.add(y.with_features(g, y.background), x.with_features(f, x.background)).to_dense()

    sn.gradcheck(function, [sn.Tensor(t.features.array, requires_grad=True) for t in (x, y)])


def test_nothing_and_something(rng):
    nothing = sn.SparseTensor(np.zeros((0, 2)), np.zeros((0, 3), np.int32), (4, 5), 3, np.ones(2))
    x = sparse(rng)
    np.testing.assert_array_equal(ops.add(nothing, x).features.numpy(), x.features.numpy() + 1)
    assert len(ops.add(nothing, nothing).sites) == 0


def test_tensors_that_do_not_fit_are_refused(rng):
    x = sparse(rng)
    with pytest.raises(ValueError, match=r"add: y has spatial_size \(4, 6\), x has \(4, 5\)"):
        ops.add(x, sparse(rng, (4, 6)))
    with pytest.raises(ValueError, match="add: y has background None"):
        ops.add(x, sparse(rng, background=None))
    with pytest.raises(TypeError, match="add: y is float32, x is float64"):
        ops.add(x, sparse(rng, dtype=np.float32))
    with pytest.raises(TypeError, match="add: y is Tensor, expected a SparseTensor"):
        ops.add(x, x.features)
