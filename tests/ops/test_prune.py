"""Pruning by a mask and rows that are spread over the sites, against the dense grid."""

from __future__ import annotations

import numpy as np
import pytest
import reference

from sparsenet import SparseTensor, Tensor, gradcheck, nn, ops
from sparsenet.ops import broadcast, prune


def sample(rng, background=(2,), size=(4, 5), count=12):
    """A batch of 3 whose middle sample is empty."""
    coordinates = reference.random_coordinates(rng, count, size, 3, empty=(1,))
    given = None if background is None else Tensor(rng.standard_normal(background), requires_grad=True)
    x = SparseTensor(rng.standard_normal((count, 2)), coordinates, size, 3, given)
    x.features.requires_grad = True
    return x


@pytest.mark.parametrize("background", [(2,), (3, 2), None])
@pytest.mark.parametrize("kept", [0.5, 0.0, 1.0])
def test_what_is_dropped_is_reset_to_the_background(background, kept, rng):
    x = sample(rng, background)
    keep = rng.random(12) < kept
    y = prune(x, keep)
    rows = np.broadcast_to(0 if background is None else x.background.array, (3, 2))
    grid = reference.to_grid(x.features.array[keep], x.coordinates[keep], (4, 5), 3, rows.reshape(3, 1, 1, 2))
    np.testing.assert_array_equal(y.to_dense().array, grid)
    assert y.background is x.background and y.sites is not x.sites and y.sites.origin is None
    np.testing.assert_array_equal(y.coordinates, x.coordinates[keep])
    gradient = rng.standard_normal(grid.shape)
    y.to_dense().backward(gradient)
    expected = np.where(keep[:, None], reference.from_grid(gradient, x.coordinates), 0)
    np.testing.assert_array_equal(x.features.grad, expected)
    if background == (2,):
        reference.assert_close(x.background.grad, reference.background_gradient(gradient, x.coordinates[keep]))


def test_masks_of_all_kinds(rng):
    x = sample(rng)
    mask = x.features.array[:, 0] > 0
    for keep in (mask, mask.tolist(), x.features[:, 0] > 0):
        np.testing.assert_array_equal(prune(x, keep).features.array, x.features.array[mask])
    nothing = SparseTensor(np.zeros((0, 2)), np.zeros((0, 3), int), (4, 5), 3)
    assert len(prune(nothing, [])) == 0


@pytest.mark.parametrize("background", [(2,), (3, 2), None])
def test_a_pruned_tensor_goes_on_through_a_network(background, rng):
    x = sample(rng, background)
    keep = np.arange(12) % 3 > 0
    net = nn.Sequential(nn.SparseConv(2, 3, 2, dimension=2, rng=0), nn.SparseAvgPool(2, dimension=2))
    net.to(dtype="float64")

    def function(features, *rest):
        y = net(prune(SparseTensor.from_sites(features, x.sites, rest[0] if rest else None), keep))
        return (y.features, y.background) if rest else y.features

    assert gradcheck(function, [x.features, *([x.background] if background else [])])


@pytest.mark.parametrize(("keep", "error", "message"), [
    (np.ones(12, int), TypeError, "prune: keep is int64, expected an array of bools, such as"),
    (None, TypeError, "prune: keep is NoneType, expected an array of bools"),
    (np.ones(11, bool), ValueError, r"prune: keep has shape \(11,\), expected \(12,\), a bool for each site"),
    (np.ones((12, 1), bool), ValueError, r"keep has shape \(12, 1\), expected \(12,\)"),
])
def test_masks_that_do_not_fit(keep, error, message, rng):
    with pytest.raises(error, match=message):
        prune(sample(rng), keep)


def test_prune_takes_a_sparse_tensor():
    with pytest.raises(TypeError, match="prune: x is ndarray, expected a SparseTensor"):
        prune(np.ones(3), np.ones(3, bool))


@pytest.mark.parametrize("background", [(2,), (3, 2), None])
def test_every_cell_holds_the_row_of_its_sample(background, rng):
    x = sample(rng, background)
    rows = Tensor(rng.standard_normal((3, 4)), requires_grad=True)
    y = broadcast(rows, x)
    mask = np.ones((3, 1, 4, 5)) if background else reference.occupancy(x.coordinates, (4, 5), 3)[:, None]
    np.testing.assert_array_equal(y.to_dense().array, rows.array[:, :, None, None] * mask)
    assert y.sites is x.sites and y.background is (rows if background else None)
    gradient = rng.standard_normal((3, 4, 4, 5))
    y.to_dense().backward(gradient)
    reference.assert_close(rows.grad, (gradient * mask).sum(axis=(2, 3)))


@pytest.mark.parametrize("background", [(2,), (3, 2)])
def test_each_site_can_be_told_of_the_whole_sample(background, rng):
    x = sample(rng, background)
    y = ops.concatenate(x, broadcast(ops.global_pool(x), x))
    grid = x.to_dense().array
    means = np.broadcast_to(grid.mean(axis=(2, 3))[:, :, None, None], grid.shape)
    reference.assert_close(y.to_dense(), np.concatenate([grid, means], axis=1))
    assert y.sites is x.sites

    def function(features, background):
        x_ = SparseTensor.from_sites(features, x.sites, background)
        y = ops.concatenate(x_, broadcast(ops.global_pool(x_), x_))
        return y.features, y.background

    assert gradcheck(function, [x.features, x.background])


@pytest.mark.parametrize(("rows", "error", "message"), [
    (np.ones((3, 2)), TypeError, r"broadcast: rows is ndarray, expected a Tensor \(B, C\)"),
    (Tensor(np.ones((2, 2))), ValueError, r"broadcast: rows has shape \(2, 2\), expected \(3, C\): one row for each"),
    (Tensor(np.ones(3)), ValueError, r"rows has shape \(3,\), expected \(3, C\)"),
    (Tensor(np.ones((3, 2), "f4")), TypeError, "broadcast: rows is float32 on cpu, x is float64 on cpu"),
])
def test_rows_that_do_not_fit(rows, error, message, rng):
    with pytest.raises(error, match=message):
        broadcast(rows, sample(rng))


def test_broadcast_takes_a_sparse_tensor():
    with pytest.raises(TypeError, match="broadcast: x is Tensor, expected a SparseTensor"):
        broadcast(Tensor(np.ones((3, 2))), Tensor(np.ones((3, 2))))
