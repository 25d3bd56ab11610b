"""concatenate: channels side by side on the union of sites; a site that one lacks has its background there."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import ops

SIZES = [(7,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]


def sparse(rng, channels, spatial_size=(4, 5), count=8, background=()):
    coordinates = reference.random_coordinates(rng, count, spatial_size, batch_size=3, empty=(1,))
    coordinates = coordinates[np.lexsort(coordinates.T[::-1])]
    if background is not None:
        background = rng.standard_normal((*background, channels))
    return sn.SparseTensor(rng.standard_normal((count, channels)), coordinates, spatial_size, 3, background)


@pytest.mark.parametrize("spatial_size", SIZES, ids=lambda size: f"{len(size)}d")
@pytest.mark.parametrize("backgrounds", [((), (), ()), ((3,), (), (3,)), (None, None, None)], ids=str)
def test_equals_the_grids_side_by_side_and_so_do_gradients(spatial_size, backgrounds, rng):
    parts = [sparse(rng, 1 + i, spatial_size, 6 + i, background) for i, background in enumerate(backgrounds)]
    z = ops.concatenate(*parts)
    np.testing.assert_array_equal(z.to_dense().numpy(),
                                  np.concatenate([x.to_dense().numpy() for x in parts], axis=1))
    union = {tuple(site) for x in parts for site in x.coordinates.tolist()}
    assert [tuple(site) for site in z.coordinates.tolist()] == sorted(union)
    arrays = [x.features.array for x in parts] + [x.background.array for x in parts if x.background is not None]

    def function(*leaves):
        grounds = leaves[3:] or (None,) * 3
        return ops.concatenate(*(x.with_features(f, g) for x, f, g in zip(parts, leaves, grounds, strict=False))
                               ).to_dense()

    sn.gradcheck(function, [sn.Tensor(array, requires_grad=True) for array in arrays])


def test_gradients_reach_a_background_that_only_the_output_reads(rng):
    x, y = sparse(rng, 2), sparse(rng, 1, background=(3,))
    x.background.requires_grad = y.background.requires_grad = True
    ops.concatenate(x, y).background.backward(np.arange(9.0).reshape(3, 3))
    assert x.background.grad.tolist() == [9.0, 12.0] and y.background.grad.tolist() == [[2.0], [5.0], [8.0]]


def test_sites_of_one_that_has_them_all_are_shared(rng):
    x = sparse(rng, 2)
    y = sn.SparseTensor(x.features.array[::2], x.coordinates[::2], x.spatial_size, 3, x.background)
    for parts in ((x, y), (y, x), (x, x), (y, y, x)):
        assert ops.concatenate(*parts).sites is x.sites
    assert ops.concatenate(x).sites is x.sites


def test_tensors_that_do_not_fit_are_refused(rng):
    x = sparse(rng, 2)
    with pytest.raises(ValueError, match=r"concatenate: y has spatial_size \(4, 6\), x has \(4, 5\)"):
        ops.concatenate(x, sparse(rng, 2, (4, 6)))
    with pytest.raises(ValueError, match="concatenate: tensor 2 has background None"):
        ops.concatenate(x, x, sparse(rng, 2, background=None))
    with pytest.raises(TypeError, match="concatenate: y is float32, x is float64"):
        ops.concatenate(x, x.to(dtype="float32"))
    with pytest.raises(TypeError, match="concatenate: tensor 0 is list, expected a SparseTensor: give each"):
        ops.concatenate([x, x])
    with pytest.raises(TypeError, match="concatenate: there is no tensor"):
        ops.concatenate()
