"""join: samples as one batch, whose grids are theirs one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from cuda_host import cupy_of_numpy

import sparsenet as sn
from sparsenet.data import Sample
from sparsenet.shapes import Mesh, Off3DPicture

SIZES = [(9,), (4, 5), (3, 4, 2), (2, 3, 2, 3)]
C = 2


def part(rng, size, batch, background, count=5, dtype=np.float64):
    """A batch, of which the first sample is empty if there are several."""
    cells = reference.random_coordinates(rng, count if batch else 0, size, batch, empty=(0,) if batch > 1 else ())
    cells = cells[np.lexsort(cells.T[::-1])]
    shape = {"own": (batch, C), "shared": (C,)}.get(background)
    row = background if shape is None else sn.Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
    return sn.SparseTensor(sn.Tensor(rng.standard_normal((len(cells), C)).astype(dtype), True), cells, size, batch, row)


@pytest.mark.parametrize("backgrounds", [("shared", "own", "shared"), ("zeros", "shared", "zeros"), ("zeros",) * 3],
                         ids=["mixed", "one of zeros", "zeros"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{len(size)}d")
def test_the_grids_follow_one_another_and_gradients_find_their_way(backgrounds, size, rng):
    parts = [part(rng, size, batch, background) for batch, background in zip((1, 3, 2), backgrounds, strict=True)]
    joined = sn.join(parts)
    dense = joined.to_dense()
    np.testing.assert_array_equal(dense.numpy(), np.concatenate([one.to_dense().numpy() for one in parts]))
    assert joined.batch_size == 6 and (joined.sites.keys[1:] > joined.sites.keys[:-1]).all()
    assert joined.zero_background is (backgrounds == ("zeros",) * 3)
    gradient = rng.standard_normal(dense.shape)
    dense.backward(gradient)
    for one, share in zip(parts, np.split(gradient, [1, 4]), strict=True):
        np.testing.assert_array_equal(one.features.grad, np.moveaxis(share, 1, -1)[tuple(one.coordinates.T)])
        if one.background.requires_grad:
            rest = share.copy()
            np.moveaxis(rest, 1, -1)[tuple(one.coordinates.T)] = 0
            rest = rest.reshape(*rest.shape[:2], -1).sum(axis=2)
            reference.assert_close(one.background.grad, rest if one.background.ndim == 2 else rest.sum(axis=0))


def test_a_background_that_all_share_stays_one(rng):
    row = sn.Tensor(np.ones(C), requires_grad=True)
    parts = [part(rng, (4, 5), batch, row) for batch in (2, 1)]
    joined = sn.join(parts)
    assert joined.background is row
    assert sn.join([part(rng, (4, 5), 1, None) for _ in range(2)]).background is None


def test_samples_without_sites_and_batches_without_samples(rng):
    empty, none = part(rng, (4, 5), 2, "shared", 0), part(rng, (4, 5), 0, "own")
    joined = sn.join([none, empty, part(rng, (4, 5), 1, "shared"), none])
    assert joined.batch_size == 3 and joined.background.shape == (3, C)
    assert set(joined.coordinates[:, 0].tolist()) == {2}
    assert sn.join([none, none]).batch_size == 0


def test_one_is_returned_as_it_is(rng):
    x = part(rng, (4, 5), 2, "shared")
    assert sn.join([x]) is x


def test_voxels_pairs_and_samples(rng):
    mesh = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 2], [0, 1, 3]])
    voxels = Off3DPicture(mesh, 5).voxelize(8)
    cells = rng.permutation(np.argwhere(rng.random((8, 8, 8)) < 0.02))
    sample = Sample(cells, features=rng.standard_normal((len(cells), 1)).astype("f4"))
    plain, lists = Sample(cells), ([[1, 2, 3]], np.ones((1, 1), "f4"))
    x = sn.join([voxels, sample, plain, lists], (8, 8, 8))
    assert (x.batch_size, x.spatial_size, x.dtype, x.zero_background) == (4, (8, 8, 8), np.float32, True)
    dense = x.to_dense().numpy()[:, 0]
    assert (np.argwhere(dense[0]) == voxels.coordinates).all() and dense[3, 1, 2, 3] == 1
    np.testing.assert_array_equal(dense[1][tuple(cells.T)], sample.features[:, 0])
    assert (dense[2][tuple(cells.T)] == 1).all() and dense[2].sum() == len(cells)
    with_tensor = sn.join([sn.join([voxels], (8, 8, 8)), plain])
    assert with_tensor.batch_size == 2 and with_tensor.spatial_size == (8, 8, 8)


def test_in_evaluation_a_sample_has_the_same_bits_alone_and_joined(rng):
    net = sn.SparseNetwork(dimension=2, in_channels=C).add_convolution(5, 3).add_leaky_relu(0.3).add_linear(3).eval()
    parts = [part(rng, (6, 6), 1, "zeros", 9, np.float32) for _ in range(3)]
    whole = net(sn.join(parts)).numpy()
    assert whole.tobytes() == b"".join(net(one).numpy().tobytes() for one in parts)


def test_on_a_gpu(host_driver, rng):
    parts = [part(rng, (4, 5), 2, "shared"), part(rng, (4, 5), 1, "own")]
    with cupy_of_numpy.installed(host_driver):
        there = sn.join([one.to("cuda") for one in parts])
        assert there.device == "cuda"
        np.testing.assert_array_equal(there.to_dense().numpy(), sn.join(parts).to_dense().numpy())
        with pytest.raises(TypeError, match="join: tensor 1 is on cuda, tensor 0 on cpu: move one of them"):
            sn.join([parts[0], parts[1].to("cuda")])


CELLS, ONES = np.zeros((1, 2), int), np.ones((1, 1))
X = sn.SparseTensor(ONES, np.zeros((1, 3), int), (4, 4), 1)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (([],), ValueError, "there is no sample"), ((X,), TypeError, r"samples are a SparseTensor, .* join\(\[x1, x2\]\)"),
    (([X, 3],), TypeError, "sample 1 is int, expected a SparseTensor, a pair"),
    (([(CELLS, ONES)],), ValueError, "spatial_size is None, expected the grid"),
    (([(CELLS[:, :1], ONES)], (4, 4)), ValueError, r"coordinates of sample 0 have shape \(1, 1\), expected \(n, 2\)"),
    (([(CELLS + 9, ONES)], (4, 4)), ValueError, "9 is outside the grid"),
    (([X], (5, 5)), ValueError, r"tensor 0 has spatial_size \(4, 4\), expected \(5, 5\)"),
    (([X, sn.SparseTensor(ONES, np.zeros((1, 3), int), (5, 4), 1)],), ValueError, r"y has spatial_size \(5, 4\)"),
    (([X, sn.SparseTensor(np.ones((1, 2)), np.zeros((1, 3), int), (4, 4), 1)],), ValueError, "y has channels 2"),
    (([X, X.to(dtype="float32")],), TypeError, "y is float32, x is float64"),
    (([X, X.with_features(X.features, None)],), ValueError, "y has background None, the other has one"),
    (([X, X], (4, 4, 4)), ValueError, "tensor 0 has spatial_size"),
    (([sn.SparseTensor(ONES, np.zeros((1, 3), int), (2**31 - 1,) * 2, 1)] * 3,), OverflowError, "more cells than"),
])
def test_what_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sn.join(*arguments)
