"""Average, sum and padded max-pooling equal the dense poolings at every active and inactive cell."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference

from sparsenet import SparseTensor, Tensor, gradcheck, nn
from sparsenet.ops import average_pool, max_pool, sum_pool
from sparsenet.sparse import ActiveSites, Geometry

CASES = [  # spatial size, filter size, stride, padding
    ((9,), 3, 2, 1),
    ((7,), 4, 1, 2),
    ((6, 7), 2, 2, 0),
    ((6, 5), (3, 2), (2, 1), (1, 0)),
    ((5, 4, 6), 3, 2, 1),
    ((4, 4, 4), 2, 2, 0),
    ((4, 3, 4, 3), (2, 3, 2, 2), 2, (1, 1, 0, 1)),
]
KINDS = {"average": (average_pool, reference.average_pool, reference.average_pool_backward),
         "sum": (sum_pool, reference.sum_pool, reference.sum_pool_backward)}


def setting(spatial_size, background, seed=0):
    """A batch of 3 whose middle sample is empty, and its grid; the background is one row, or one for each sample."""
    rng = np.random.default_rng(seed)
    coordinates = reference.random_coordinates(rng, min(15, int(np.prod(spatial_size))), spatial_size, 3, empty=(1,))
    x = SparseTensor(rng.standard_normal((len(coordinates), 4)), coordinates, spatial_size, 3,
                     Tensor(rng.standard_normal((3, 4) if background == "by sample" else 4), requires_grad=True))
    x.features.requires_grad = True
    rows = np.broadcast_to(x.background.array, (3, 4)).reshape(3, *(1,) * len(spatial_size), 4)
    return x, reference.to_grid(x.features.array, x.coordinates, spatial_size, 3, rows), rng


def check(x, y, expected, to_grid, rng):
    """Values in every cell, and the gradients of features and background, of a gradient of the whole grid."""
    reference.assert_close(y.to_dense(), expected)
    gradient = rng.standard_normal(expected.shape)
    y.to_dense().backward(gradient)
    grid = to_grid(gradient)
    reference.assert_close(x.features.grad, reference.from_grid(grid, x.coordinates), "features")
    rest = np.moveaxis(grid, 1, -1).copy()
    rest[tuple(x.coordinates.T)] = 0
    by_sample = rest.reshape(3, -1, 4).sum(axis=1)
    reference.assert_close(x.background.grad, by_sample if x.background.ndim == 2 else by_sample.sum(axis=0),
                           "background")


@pytest.mark.parametrize("background", ["shared", "by sample"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("spatial_size", "size", "stride", "padding"), CASES)
def test_equals_the_dense_pooling(spatial_size, size, stride, padding, kind, background):
    pool, dense, backward = KINDS[kind]
    if kind == "sum":
        padding = 0
    x, grid, rng = setting(spatial_size, background)
    y = pool(x, Geometry.make(len(spatial_size), size, stride, padding))
    check(x, y, dense(grid, size, stride, padding),
          lambda gradient: backward(gradient, spatial_size, size, stride, padding), rng)


@pytest.mark.parametrize("background", ["shared", "by sample"])
@pytest.mark.parametrize("level", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize(("spatial_size", "size", "stride", "padding"), CASES)
def test_padded_max_pooling_equals_the_dense_one(spatial_size, size, stride, padding, level, background):
    """A background that is lower than most values, or higher: cells outside the grid do not compete."""
    x, _, rng = setting(spatial_size, background)
    x.background.array += level
    rows = np.broadcast_to(x.background.array, (3, 4)).reshape(3, *(1,) * len(spatial_size), 4)
    grid = reference.to_grid(x.features.array, x.coordinates, spatial_size, 3, rows)
    expected, chosen = reference.max_pool(grid, size, stride, padding)
    y = max_pool(x, Geometry.make(len(spatial_size), size, stride, padding))
    check(x, y, expected, lambda gradient: reference.max_pool_backward(gradient, chosen, spatial_size, size, stride,
                                                                       padding), rng)


def test_a_full_grid_reads_no_background_at_its_border():
    """Every cell is active, so only padding could bring the background in."""
    cells = np.argwhere(np.ones((1, 3, 3)))
    x = SparseTensor(-np.arange(1.0, 10)[:, None], cells, (3, 3), 1, np.array([100.0]))
    assert max_pool(x, Geometry.make(2, 3, 1, 1)).features.array[:, 0].tolist() == [-1, -1, -2, -1, -1, -2, -4, -4, -5]
    assert average_pool(x, Geometry.make(2, 3, 2, 1)).features.array[:, 0].tolist() == [-3, -4, -6, -7]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("spatial_size", "size", "stride", "padding"), CASES)
def test_without_a_background_only_sites_count(spatial_size, size, stride, padding, kind):
    padding = padding if kind == "average" else 0
    x, _, _ = setting(spatial_size, "shared")
    x = x.with_features(x.features, None)
    geometry = Geometry.make(len(spatial_size), size, stride, padding)
    y = KINDS[kind][0](x, geometry)
    rows = {tuple(site): row for site, row in zip(x.coordinates.tolist(), x.features.array, strict=True)}
    for (b, *m), found in zip(y.coordinates.tolist(), y.features.array, strict=True):
        window = itertools.product(*(range(i * s - p, i * s - p + k) for i, s, p, k in zip(
            m, geometry.stride, geometry.padding, geometry.size, strict=True)))
        sites = [rows[b, *cell] for cell in window if (b, *cell) in rows]
        np.testing.assert_allclose(found, np.mean(sites, axis=0) if kind == "average" else np.sum(sites, axis=0))
    assert y.background is None
    assert gradcheck(lambda f: KINDS[kind][0](x.with_features(f, None), geometry).features,
                     [Tensor(x.features.array, requires_grad=True)])


def test_backgrounds_follow():
    x, _, _ = setting((6, 7), "by sample")
    assert average_pool(x, Geometry.make(2, 3, 1, 1)).background is x.background
    np.testing.assert_array_equal(sum_pool(x, Geometry.make(2, (2, 3))).background.array, 6 * x.background.array)


@pytest.mark.parametrize("layer", [nn.SparseAvgPool(3, 2, 1), nn.SparseSumPool(2), nn.SparseMaxPool(3, 2, 1)],
                         ids=lambda layer: layer.kind)
def test_the_inverse_convolution_leads_back_over_it(layer, rng):
    coordinates = reference.random_coordinates(rng, 20, (6, 6, 6), 2)
    sites = ActiveSites(coordinates, (6, 6, 6), 2)
    x = SparseTensor.from_sites(rng.standard_normal((20, 3)), sites, rng.standard_normal(3))
    back = nn.InverseConv(3, 2, layer, rng=0).to(dtype="float64")
    y = layer(x)
    z = back(nn.SubmanifoldConv(3, 3, 3, rng=1).to(dtype="float64")(y))
    assert z.sites is sites
    direct = back(y)
    grid = reference.to_grid(y.features.array, y.coordinates, y.spatial_size, 2)
    geometry = layer.geometry
    dense, *_ = reference.convolution_backward(grid, np.zeros((2, 2, 6, 6, 6)), back.weight.array.transpose(0, 2, 1),
                                               geometry.size, geometry.stride, geometry.padding)
    reference.assert_close(direct.features, reference.from_grid(dense, direct.coordinates) + back.bias.array)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: average_pool(x.features, Geometry.make(2, 2)), TypeError, "SparseAvgPool: the input is Tensor, expecte"),
    (lambda x: sum_pool(None, Geometry.make(2, 2)), TypeError, "SparseSumPool: the input is NoneType, expected a Spar"),
    (lambda x: average_pool(x, Geometry.make(2, 3, 1, 2)), ValueError,
     r"SparseAvgPool: padding is \(2, 2\), expected at most \(1, 1\), half a window: use less, or larger"),
    (lambda x: average_pool(x, Geometry.make_submanifold(2, 3)), ValueError, "expected one that is not submanifold"),
    (lambda x: sum_pool(x, Geometry.make(2, 3, 1, 1)), ValueError, "SparseSumPool: geometry is 3/1 padding 1, exp"),
    (lambda x: average_pool(x, Geometry.make(3, 2)), ValueError, "the layer has 3 dimensions"),
    (lambda x: max_pool(x, Geometry.make(2, 2, 1, 1, 9)), ValueError,
     r"SparseMaxPool: windows of dilation \(9, 9\) may step over a padded grid of \(6, 7\)"),
    (lambda x: nn.SparseAvgPool(3, padding=2), ValueError, "SparseAvgPool: padding is .* expected at most .*1, 1, 1"),
    (lambda x: nn.SparseMaxPool(2, padding=(1, 2), dimension=2), ValueError, r"SparseMaxPool: padding is \(1, 2\)"),
])
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(setting((6, 7), "shared")[0])


@pytest.mark.parametrize("dilation", [3, 6])  # the shorter side is 6
def test_a_dilated_window_that_cannot_step_over_the_grid_is_fine(dilation):
    x, grid, rng = setting((6, 7), "shared")
    y = average_pool(x, Geometry.make(2, 2, 1, 1, dilation))
    padded, ones = (reference.pad(array, 1) for array in (grid, np.ones_like(grid)))
    total = count = 0
    for cells in reference.offset_slices((6, 7), 2, 1, 1, dilation):
        total, count = total + padded[(..., *cells)], count + ones[(..., *cells)]
    assert count.min() > 0
    reference.assert_close(y.to_dense(), total / count)
