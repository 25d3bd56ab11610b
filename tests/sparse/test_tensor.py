"""SparseTensor: order, background, conversions, and what is refused."""

import sys

import numpy as np
import pytest

from sparsenet import SparseTensor, Tensor, gradcheck

COORDINATES = np.array([[1, 2, 0], [0, 0, 1], [0, 0, 0]])
FEATURES = np.array([[3.0], [2.0], [1.0]], np.float32)


def test_rows_are_sorted_and_gradients_find_their_way_back():
    features = Tensor(FEATURES, requires_grad=True)
    x = SparseTensor(features, COORDINATES, (3, 2), 2)
    assert x.coordinates.tolist() == [[0, 0, 0], [0, 0, 1], [1, 2, 0]]
    assert x.features.array.ravel().tolist() == [1.0, 2.0, 3.0]
    assert x.permutation.tolist() == [2, 1, 0]
    x.features.backward(np.array([[10.0], [20.0], [30.0]], np.float32))
    assert features.grad.ravel().tolist() == [30.0, 20.0, 10.0]


def test_gradients_find_their_way_back_through_a_permutation_that_is_not_its_own_inverse(rng):
    cells = np.array([[0, 1], [0, 2], [0, 3], [0, 0], [0, 4]])
    features = Tensor(np.array([[1.0], [2.0], [3.0], [0.0], [4.0]]), requires_grad=True)
    x = SparseTensor(features, cells, (5,), 1)
    assert x.permutation.tolist() == [3, 0, 1, 2, 4] and x.features.array.ravel().tolist() == [0, 1, 2, 3, 4]
    (x.features * np.array([[10.0], [20.0], [30.0], [40.0], [50.0]])).sum().backward()
    assert features.grad.ravel().tolist() == [20, 30, 40, 10, 50]
    shuffled = rng.permutation(20)
    cells = np.stack([np.zeros(20, int), shuffled], axis=1)
    assert gradcheck(lambda f: SparseTensor(f, cells, (20,), 1).features, [Tensor(rng.standard_normal((20, 2)), True)])


def test_sorted_features_are_not_copied():
    assert SparseTensor(FEATURES, COORDINATES[::-1], (3, 2), 2).features.array is FEATURES


def test_to_dense_and_back():
    x = SparseTensor(FEATURES, COORDINATES, (3, 2), 3, background=np.array([7.0]))
    dense = x.to_dense().array
    assert dense.shape == (3, 1, 3, 2) and dense.dtype == np.float32
    assert dense[0, 0, 0].tolist() == [1.0, 2.0] and dense[1, 0, 2, 0] == 3.0 and (dense[2] == 7).all()
    plain = SparseTensor(FEATURES, COORDINATES, (3, 2), 3)
    again = SparseTensor.from_dense(plain.to_dense().array)
    assert np.array_equal(again.coordinates, plain.coordinates) and again.batch_size == 3
    assert np.array_equal(again.features.array, plain.features.array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_from_dense_keeps_the_dtype_and_takes_any_nonzero_channel(dtype):
    array = np.zeros((2, 2, 4), dtype)
    array[1, 1, 3] = -5
    x = SparseTensor.from_dense(array)
    assert x.dtype == dtype and x.coordinates.tolist() == [[1, 3]] and x.features.array.tolist() == [[0, -5]]
    assert len(SparseTensor.from_dense(np.zeros((2, 2, 4), dtype))) == 0


def test_gradients_flow_through_from_dense(rng):
    array = rng.standard_normal((2, 3, 2, 4)) * (rng.random((2, 1, 2, 4)) < 0.5)
    assert gradcheck(lambda grid: SparseTensor.from_dense(grid).features * 2, [Tensor(array[:1] + 3, True)])
    grid = Tensor(array, requires_grad=True)
    gradient = rng.standard_normal(array.shape)
    SparseTensor.from_dense(grid).to_dense().backward(gradient)
    np.testing.assert_array_equal(grid.grad, np.where(array != 0, gradient, 0))


def test_what_it_says_of_itself():
    x = SparseTensor(FEATURES, COORDINATES, (3, 2), np.int64(2))
    assert (len(x), x.channels, x.dimension, x.device, x.batch_size) == (3, 1, 2, "cpu", 2)
    assert x.active_fraction == 3 / 12
    assert "3 sites of (3, 2) (25.00%), 1 channel, batch of 2, float32, cpu" in repr(x)


def test_backgrounds():
    assert SparseTensor(FEATURES, COORDINATES, (3, 2), 2).background.array.tolist() == [0.0]
    assert SparseTensor(FEATURES, COORDINATES, (3, 2), 2, None).background is None
    given = Tensor(np.ones(1, np.float32), requires_grad=True)
    assert SparseTensor(FEATURES, COORDINATES, (3, 2), 2, given).background is given


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((FEATURES[:2], COORDINATES), ValueError, r"features have shape \(2, 1\), expected \(3, C\)"),
        ((FEATURES[[0, 1, 2, 2]], COORDINATES), ValueError, r"features have shape \(4, 1\), expected \(3, C\)"),
        ((FEATURES, COORDINATES, np.zeros((3, 1))), ValueError, r"background has shape \(3, 1\), expected \(1,\)"),
        ((FEATURES.astype(int), COORDINATES), TypeError, "features are int64, expected float32 or float64"),
        ((FEATURES, COORDINATES, np.zeros(2)), ValueError, r"background has shape \(2,\), expected \(1,\)"),
        ((FEATURES, COORDINATES, "ones"), ValueError, "background is 'ones', expected 'zeros'"),
        ((FEATURES, COORDINATES, Tensor(np.zeros(1))), TypeError, "background is float64, the features are float32"),
        ((FEATURES, COORDINATES[[0, 0, 1]]), ValueError, "rows 0 and 1 are the same site"),
    ],
)
def test_what_is_refused(arguments, error, message):
    features, coordinates, *background = arguments
    with pytest.raises(error, match=message):
        SparseTensor(features, coordinates, (3, 2), 2, *background)


@pytest.mark.parametrize(("size", "batch", "message"), [
    ((3.7, 3), 2, r"spatial_size is \(3.7, 3\), expected one whole number per dimension"),
    ((3, 2), 2.5, "batch_size is 2.5, expected a whole number"),
])
def test_sizes_that_are_no_whole_numbers_are_refused(size, batch, message):
    with pytest.raises(TypeError, match=message):
        SparseTensor(FEATURES, COORDINATES, size, batch)


def test_from_dense_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"shape \(3, 3\), expected \(B, C, \*spatial\)"):
        SparseTensor.from_dense(np.zeros((3, 3)))


@pytest.mark.parametrize("shape", [(1,), (2, 1)])
def test_detach_cuts_features_and_background(shape):
    features, background = Tensor(FEATURES, requires_grad=True), Tensor(np.ones(shape, np.float32), requires_grad=True)
    x = SparseTensor(features, COORDINATES, (3, 2), 2, background)
    cut = x.detach()
    assert not cut.features.requires_grad and not cut.background.requires_grad and cut.sites is x.sites
    assert cut.features.array is x.features.array and cut.background.array is background.array
    assert SparseTensor(FEATURES, COORDINATES, (3, 2), 2, None).detach().background is None


def test_to_converts_features_and_background():
    x = SparseTensor(FEATURES, COORDINATES, (3, 2), 2, np.ones(1)).to(dtype="float64")
    assert x.dtype == x.background.dtype == np.float64 and x.features.array.ravel().tolist() == [1, 2, 3]


def test_devices(monkeypatch):
    x = SparseTensor(FEATURES, COORDINATES, (3, 2), 2)
    assert x.to("cpu") is x
    with pytest.raises(ValueError, match="device is 'cpu' or 'cuda', got 'tpu'"):
        x.to("tpu")
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    with pytest.raises(RuntimeError, match=r"pip install 'sparsenet\[cuda12x\]'"):
        x.to("cuda")
