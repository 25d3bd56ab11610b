"""Depth images against rays that are followed slice by slice, and the maximum over the images of a sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import SparseTensor, Tensor, nn, ops
from sparsenet.inspect.page.layers import look_into
from sparsenet.sparse import ActiveSites, DepthImaging, prepare
from sparsenet.sparse.imaging import images_of

TURNED = {2: (0, 1, 2), 1: (2, 0, 1), 0: (1, 2, 0)}  # up axis -> two others and it, right-handed


def followed(rows, count, elevation, up_axis, size):
    """(count, *size): the first row that each ray meets in a grid of rows, -1 elsewhere, and its slice."""
    seen, depths = np.full((2, count, *size), -1)
    for number in range(count):
        azimuth, quarters = 360 * number / count, 0
        while azimuth >= 45:
            azimuth, quarters = azimuth - 90, quarters + 1
        grid = np.rot90(rows.transpose(TURNED[up_axis]), -quarters)  # its slices, from the front
        slices, width, height = grid.shape
        turn, tilt = math.radians(azimuth), math.radians(elevation)
        moved = [[math.floor(round(slope, 9) * (i - (slices - 1) / 2) + 0.5) for i in range(slices)]
                 for slope in (-math.tan(turn), math.tan(tilt) / math.cos(turn))]
        corner = [(whole - side - max(moves) + min(moves)) // 2 - min(moves)
                  for whole, side, moves in zip(size, (width, height), moved, strict=True)]
        for across in range(size[0]):
            for up in range(size[1]):
                for i in range(slices):
                    left, at = across - moved[0][i] - corner[0], up - moved[1][i] - corner[1]
                    if 0 <= left < width and 0 <= at < height and grid[i, left, at] >= 0:
                        seen[number, across, up], depths[number, across, up] = grid[i, left, at], i
                        break
    return seen, depths


CASES = [  # spatial size, count, elevation, up axis
    ((6, 6, 5), 12, 30.0, 2), ((5, 7, 4), 5, 0.0, 2), ((4, 5, 6), 4, -20.0, 1), ((5, 4, 7), 7, 60.0, 0),
    ((1, 3, 2), 1, 30.0, 2)]


@pytest.mark.parametrize("background", ["shared", "by sample", None])
@pytest.mark.parametrize(("size", "count", "elevation", "up_axis"), CASES)
def test_each_pixel_holds_the_first_site_on_its_ray(size, count, elevation, up_axis, background, dtype, rng):
    coordinates = reference.random_coordinates(rng, 5 if max(size) < 4 else 40, size, 3, empty=(1,))
    given = background and Tensor(rng.standard_normal((3, 2) if background == "by sample" else 2).astype(dtype),
                                  requires_grad=True)
    x = SparseTensor(rng.standard_normal((len(coordinates), 2)).astype(dtype), coordinates, size, 3, given)
    x.features.requires_grad = True
    y = ops.depth_images(x, count, elevation, up_axis)
    assert y.batch_size == 3 * count and y.dimension == 2 and (np.diff(y.sites.keys) > 0).all()

    slices = max(side for axis, side in enumerate(size) if axis != up_axis)
    rows = np.full((3, *size), -1)
    rows[tuple(x.coordinates.T)] = np.arange(len(x))
    found = [followed(rows[sample], count, elevation, up_axis, y.spatial_size) for sample in range(3)]
    seen, depths = (np.concatenate(part) for part in zip(*found, strict=True))
    held = np.zeros((3, 2)) if given is None else np.broadcast_to(given.array, (3, 2))
    expected = np.zeros((3 * count, 3, *y.spatial_size))
    expected[:, :2] = np.repeat(held, count, axis=0)[:, :, None, None]
    image, across, up = np.nonzero(seen >= 0)
    expected[image, :2, across, up] = x.features.array[seen[image, across, up]]
    expected[image, 2, across, up] = 1 - depths[image, across, up] / slices
    np.testing.assert_array_equal(reference.occupancy(y.coordinates, y.spatial_size, 3 * count), seen >= 0)
    np.testing.assert_allclose(y.to_dense().array, expected, rtol=1e-6 if dtype == np.float32 else 1e-15)
    if not elevation:  # every image shows the whole silhouette: as many cells high as the shape
        assert y.spatial_size[1] == size[up_axis]

    gradient = rng.standard_normal(expected.shape).astype(dtype)
    y.to_dense().backward(gradient)
    to_features = np.zeros((len(x), 2))
    np.add.at(to_features, seen[image, across, up], gradient[image, :2, across, up])
    reference.assert_close(x.features.grad, to_features)
    if given is not None:
        to_background = np.where((seen >= 0)[:, None], 0, gradient[:, :2]).sum(axis=(2, 3)).reshape(3, count, 2)
        reference.assert_close(given.grad, to_background.sum(axis=1 if background == "by sample" else (0, 1)))


def test_a_quarter_turn_changes_the_order_of_the_images_alone(rng):
    cells = np.argwhere(rng.random((9, 9, 6)) < 0.1)
    turned = np.stack([8 - cells[:, 1], cells[:, 0], cells[:, 2]], axis=1)  # counterclockwise

    def images(cells):
        x = SparseTensor(np.ones((len(cells), 1)), np.insert(cells, 0, 0, axis=1), (9, 9, 6), 1)
        return ops.depth_images(x).to_dense().numpy()

    np.testing.assert_array_equal(images(turned), np.roll(images(cells), 3, axis=0))


def test_a_thin_wall_has_no_holes_and_hides_what_is_behind_it():
    wall = np.array([[0, 4, y, z] for y in range(9) for z in range(9)])
    behind = np.array([[0, 6, 4, 4]])
    x = SparseTensor(np.r_[np.ones((81, 1)), [[5.0]]], np.r_[wall, behind], (9, 9, 9), 1)
    y = ops.depth_images(x)
    grid = y.to_dense().numpy()
    for image in (0, 1, 11):  # across at most 30 degrees: the wall is a slice of these
        occupied = grid[image, 0] > 0
        assert occupied.sum() == 81 and occupied.any(axis=0).sum() == occupied.any(axis=1).sum() == 9
        assert (grid[image, 0] != 5).all() and set(np.unique(grid[image, 1])) == {0, 1 - 4 / 9}
    assert (grid[6, 0] == 5).any(), "from the other side it is in front"


def test_the_images_are_made_once_and_prepared_ahead(rng):
    sites = ActiveSites(reference.random_coordinates(rng, 20, (5, 5, 5), 2), (5, 5, 5), 2)
    layer = nn.DepthImages(4)
    prepare(sites, layer.geometries())
    x = SparseTensor.from_sites(rng.standard_normal((20, 1)), sites)
    assert layer(x).sites is images_of(sites, DepthImaging(4)).sites is not ops.depth_images(x, 8).sites
    assert layer(x).zero_background and sites.copy()._copies is None


@pytest.mark.parametrize("batch", [0, 2])
def test_no_site_gives_empty_images(batch):
    x = SparseTensor(np.zeros((0, 1)), np.zeros((0, 4), int), (4, 4, 4), batch, np.ones(1))
    y = ops.depth_images(x, 3)
    assert len(y) == 0 and y.batch_size == 3 * batch and y.background.array.tolist() == [1, 0]
    assert ops.image_pool(ops.global_pool(y, "max"), 3).shape == (batch, 2)


class TestImagePool:
    def test_takes_the_maximum_and_gives_the_first_its_gradient(self, dtype, rng):
        array = rng.integers(-2, 3, (6, 4)).astype(dtype)  # with equal ones
        array[3, 1] = np.nan
        x = Tensor(array, requires_grad=True)
        y = nn.ImagePool(3)(x)
        gradient = rng.standard_normal((2, 4)).astype(dtype)
        y.backward(gradient)
        expected, back = np.zeros((2, 4)), np.zeros((6, 4))
        for sample in range(2):
            for channel in range(4):
                best = 3 * sample
                for row in range(3 * sample, 3 * sample + 3):
                    if array[row, channel] > array[best, channel] or (
                            np.isnan(array[row, channel]) and not np.isnan(array[best, channel])):
                        best = row
                expected[sample, channel] = array[best, channel]
                back[best, channel] = gradient[sample, channel]
        np.testing.assert_array_equal(y.array, expected)
        np.testing.assert_array_equal(x.grad, back)

    def test_gradcheck_of_a_network_of_images(self, rng):
        net = sn.SparseNetwork(seed=2, field=5).add_submanifold(2, 3).add_depth_images(4).add_convolution(3, 3, 2)
        net = net.add_leaky_relu(0.3).add_global_pool("max").add_image_pool().add_linear(2).to(dtype="float64")
        coordinates = reference.random_coordinates(rng, 15, (5, 5, 5), 2)
        x = SparseTensor(rng.standard_normal((15, 1)), coordinates, (5, 5, 5), 2,
                         Tensor(np.array([0.3]), requires_grad=True))
        x.features.requires_grad = True
        assert sn.gradcheck(net, [x], parameters=dict(net.named_parameters()))


def network_of_images(pooled):
    net = sn.SparseNetwork(field=4).add_depth_images(3).add_convolution(2, 2)
    return (net.add_image_pool() if pooled else net).add_linear(2).to(dtype="float64")


@pytest.mark.parametrize(("ask", "message"), [
    (lambda net, x: net.predict(x), "predict: the network gives 3 rows for 1 samples, expected one each: behind Depth"),
    (lambda net, x: sn.retrieval.embed(net, x), "embed: layer 2 gives 3 rows for 1 samples, expected one each"),
    (lambda net, x: sn.inspect.grad_cam(net, x, target=0), "grad_cam: depth_images makes grids of 2 dimensions of 3"),
    (lambda net, x: look_into(net, x), "inspector page: the network sees depth images, expected one that sees 3D"),
], ids=["predict", "embed", "grad_cam", "page"])
def test_who_expects_a_row_for_each_sample_or_one_grid_says_so(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(network_of_images(False), X)
    pooled = network_of_images(True)
    assert pooled.predict(X).shape == sn.retrieval.embed(pooled, X).shape == (1, 2)
    assert [record.name for record in sn.inspect.trace(pooled, X)][:2] == ["depth_images1", "convolution1"]


X = SparseTensor(np.ones((1, 1)), np.array([[0, 1, 1, 1]]), (4, 4, 4), 1)
FLAT = SparseTensor(np.ones((1, 1)), np.array([[0, 1, 1]]), (4, 4), 1)
HUGE = SparseTensor(np.ones((1, 1)), np.array([[0, 1, 1, 1]]), (2**20, 2**20, 2**20), 4)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: ops.depth_images(X.features), TypeError, "DepthImages: the input is Tensor, expected a SparseTensor"),
    (lambda: ops.depth_images(FLAT), ValueError, "DepthImages: the grid has 2 dimensions, expected 3"),
    (lambda: nn.DepthImages(0), ValueError, "DepthImages: count is 0, expected 1 to 360"),
    (lambda: nn.DepthImages(2.0), TypeError, "DepthImages: count is 2.0, expected a whole number"),
    (lambda: nn.DepthImages(True), TypeError, "DepthImages: count is True, expected a whole number"),
    (lambda: nn.DepthImages(2, "30"), TypeError, "DepthImages: elevation is '30', expected a number of degrees"),
    (lambda: nn.DepthImages(2, 61), ValueError, "DepthImages: elevation is 61, expected degrees from -60 to 60"),
    (lambda: nn.DepthImages(2, float("nan")), ValueError, "DepthImages: elevation is nan, expected degrees"),
    (lambda: nn.DepthImages(2, 30, 3), ValueError, "DepthImages: up_axis is 3, expected 0, 1 or 2"),
    (lambda: ops.depth_images(HUGE, 12), OverflowError, r"DepthImages: 1 sites in 12 images each of .*smaller batch"),
    (lambda: ops.image_pool(X, 2), TypeError, r"ImagePool: the input is SparseTensor, expected a Tensor \(B \* 2, C\): "
                                              "put a GlobalPool before it"),
    (lambda: ops.image_pool(Tensor(np.ones((3, 2))), 2), ValueError, r"ImagePool: the input has shape \(3, 2\), expec"),
    (lambda: sn.SparseNetwork().add_image_pool(), ValueError, "add_image_pool: there are no images, expected Depth"),
    (lambda: sn.SparseNetwork(2).add_depth_images(), ValueError, "add_depth_images: there are 2 dimensions, expec"),
    (lambda: sn.SparseNetwork().add_depth_images().add_depth_images(), ValueError, "there are 2 dimensions, expected"),
    (lambda: sn.SparseNetwork().add_depth_images().add_convolution(2, 3).field_for(1), ValueError,
     "field_for: the network has DepthImages, .* set the network's field"),
])
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
