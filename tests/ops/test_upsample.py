"""Nearest upsampling equals the dense one in every cell."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import reference

from sparsenet import SparseTensor, Tensor, nn
from sparsenet.ops import upsample
from sparsenet.sparse import ActiveSites, Upsampling, prepare
from sparsenet.sparse.upsampling import copies_of

CASES = [  # spatial size, scale, spatial size of the result
    ((7,), 3, None),
    ((4, 3), 2, None),
    ((4, 3), (1, 3), (5, 8)),
    ((3, 4, 2), 2, None),
    ((3, 4, 2), 2, 7),  # cuts off along one axis, leaves cells along the others
    ((3, 4, 2), (2, 1, 3), (5, 4, 6)),
    ((2, 2, 3, 2), 2, (3, 4, 6, 5)),
]


@pytest.mark.parametrize("background", ["shared", "by sample", None])
@pytest.mark.parametrize(("size", "scale", "fine"), CASES)
def test_equals_the_dense_one(size, scale, fine, background, dtype, rng):
    coordinates = reference.random_coordinates(rng, 6, size, 3, empty=(1,))
    given = background and Tensor(rng.standard_normal((3, 2) if background == "by sample" else 2).astype(dtype),
                                  requires_grad=True)
    x = SparseTensor(rng.standard_normal((6, 2)).astype(dtype), coordinates, size, 3, given)
    x.features.requires_grad = True
    rows = np.broadcast_to(0 if given is None else given.array, (3, 2)).reshape(3, *(1,) * len(size), 2)
    grid = reference.to_grid(x.features.array, x.coordinates, size, 3, rows)
    y = upsample(x, scale, fine)
    expected = reference.upsample(grid, scale, fine, rows.reshape(3, 2))
    np.testing.assert_array_equal(y.to_dense().array, expected)
    assert y.background is given and (np.diff(y.sites.keys) > 0).all()
    active = reference.upsample(reference.occupancy(x.coordinates, size, 3)[:, None], scale, fine)
    np.testing.assert_array_equal(reference.occupancy(y.coordinates, y.spatial_size, 3), active[:, 0])

    gradient = rng.standard_normal(expected.shape).astype(dtype)
    y.to_dense().backward(gradient)
    to_grid, beyond = reference.upsample_backward(gradient, size, scale)
    reference.assert_close(x.features.grad, reference.from_grid(to_grid, x.coordinates))
    if background == "shared":
        reference.assert_close(given.grad, reference.background_gradient(to_grid, x.coordinates) + beyond)


def test_with_a_convolution_behind_it_it_is_a_transposed_convolution(rng):
    """A transposed convolution of size and stride 2, on any background: each copy times the weights of its offset is
    what Upsample and a convolution of one cell give if the weights are equal."""
    coordinates = reference.random_coordinates(rng, 5, (3, 3), 1)
    x = SparseTensor(rng.standard_normal((5, 2)), coordinates, (3, 3), 1, rng.standard_normal(2))
    layer = nn.Linear(2, 3, rng=0).to(dtype="float64")
    y = layer(upsample(x, 2))
    weight = np.repeat(layer.weight.array.T[None], 4, axis=0)
    dense, *_ = reference.convolution_backward(x.to_dense().array, np.zeros((1, 3, 6, 6)), weight, 2, 2)
    reference.assert_close(y.to_dense(), dense + layer.bias.array[:, None, None])


def test_the_sites_are_made_once_and_prepared_ahead(rng):
    sites = ActiveSites(reference.random_coordinates(rng, 8, (4, 4), 2), (4, 4), 2)
    layer = nn.Upsample(2)
    prepare(sites, layer.geometries())
    made = copies_of(sites, Upsampling(2))
    x = SparseTensor.from_sites(rng.standard_normal((8, 1)), sites)
    assert layer(x).sites is made.sites is upsample(x, 2).sites is not upsample(x, 2, 8).sites
    assert sites.copy()._copies is None and made.parents.dtype == made.children.dtype == np.int32
    watched = weakref.ref(made.sites)
    gc.disable()
    try:
        del sites, x, made
        assert watched() is None
    finally:
        gc.enable()


def test_nothing_to_copy():
    x = SparseTensor(np.zeros((0, 2)), np.zeros((0, 3), int), (2, 2), 3, np.ones(2))
    y = upsample(x, 3)
    assert len(y) == 0 and y.spatial_size == (6, 6) and (y.to_dense().array == 1).all()
    far = SparseTensor(np.ones((1, 1)), np.array([[0, 3]]), (4,), 1)
    assert len(upsample(far, 2, 6)) == 0 and len(upsample(far, 2, 7)) == 1


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: upsample(x.features, 2), TypeError, "Upsample: the input is Tensor, expected a SparseTensor"),
    (lambda x: upsample(x, 0), ValueError, "Upsample: scale_factor is 0, expected whole numbers from 1"),
    (lambda x: upsample(x, 1.5), ValueError, "Upsample: scale_factor is 1.5, expected whole numbers"),
    (lambda x: nn.Upsample(True), ValueError, "Upsample: scale_factor is True, expected whole numbers"),
    (lambda x: nn.Upsample(2, (4, -1)), ValueError, r"Upsample: spatial_size is \(4, -1\), expected whole numbers"),
    (lambda x: upsample(x, (2, 2, 2)), ValueError, r"scale_factor is \(2, 2, 2\), expected 2 numbers for the 2 dimen"),
    (lambda x: upsample(x, 2, (4,)), ValueError, r"spatial_size is \(4,\), expected 2 numbers"),
    (lambda x: upsample(x, 2**30), OverflowError, "Upsample: sides are .*expected at most 2147483647"),
    (lambda x: upsample(x, 2**16, 2**18), OverflowError, "Upsample: 1 sites have 4294967296 copies on grids of"),
])
def test_what_is_refused(call, error, message):
    x = SparseTensor(np.ones((1, 1)), np.array([[0, 1, 1]]), (4, 4), 1)
    with pytest.raises(error, match=message):
        call(x)
