"""Activations of tensors and sparse tensors: values at all cells, gradients of features, background and slopes."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import sparsenet as sn
from sparsenet import ops

SIZES = {1: (9,), 2: (4, 5), 3: (3, 4, 2), 4: (2, 3, 2, 3)}
CHANNELS, BATCH = 3, 3
SLOPES = {"prelu": [0.25, -0.5, 2.0], "prelu, one slope": [-0.3]}
NAMES = [*reference.ACTIVATIONS, *SLOPES, "softmax"]
each_name = pytest.mark.parametrize("name", NAMES)


def operation(name):
    """name -> (a function of x, and of the weight if it has one; a weight, if it has one)"""
    if name in SLOPES:
        return [ops.prelu, np.array(SLOPES[name])]
    return [(lambda x: ops.elu(x, 0.7)) if name == "elu" else getattr(ops, name)]


def dense(name, x, gradient):
    """The oracle's output, and the gradients of x and of a weight."""
    if name in SLOPES:
        weight = np.array(SLOPES[name])
        return reference.prelu(x, weight), *reference.prelu_backward(gradient, x, weight)
    if name == "softmax":
        return reference.softmax(x), reference.softmax_backward(gradient, x)
    alpha = 0.7 if name == "elu" else 1.0
    return reference.activation(x, name, alpha), reference.activation_backward(gradient, x, name, alpha)


def case(rng, dimension, shape, count=11, dtype=np.float64):
    """Leaves, and a batch of three samples, the middle one empty."""
    coordinates = reference.random_coordinates(rng, count, SIZES[dimension], BATCH, empty=(1,))
    coordinates = coordinates[np.lexsort(coordinates.T[::-1])]
    leaves = [sn.Tensor(2 * rng.standard_normal(one).astype(dtype), requires_grad=True)
              for one in ((count, CHANNELS), shape) if one is not None]
    background = leaves[1] if shape else None
    return leaves, sn.SparseTensor(leaves[0], coordinates, SIZES[dimension], BATCH, background)


@each_name
@pytest.mark.parametrize("shape", [(CHANNELS,), (BATCH, CHANNELS)], ids=str)
@pytest.mark.parametrize("dimension", SIZES, ids=lambda d: f"{d}d")
def test_equals_the_dense_layer(name, shape, dimension, rng):
    leaves, x = case(rng, dimension, shape)
    function, *weight = operation(name)
    weights = [sn.Tensor(array, requires_grad=True) for array in weight]
    y = function(x, *weights)
    assert y.sites is x.sites
    grid, result = x.to_dense().numpy(), y.to_dense()
    gradient = rng.standard_normal(grid.shape)
    expected, of_grid, *of_weight = dense(name, grid, gradient)
    result.backward(gradient)
    reference.assert_close(result, expected)
    cells = np.moveaxis(of_grid, 1, -1).copy()
    place = (x.coordinates[:, 0], *x.coordinates[:, 1:].T)
    reference.assert_close(leaves[0].grad, cells[place], "features")
    cells[place] = 0
    below = cells.reshape(BATCH, -1, CHANNELS).sum(axis=1)
    reference.assert_close(leaves[1].grad, below if len(shape) == 2 else below.sum(axis=0), "background")
    for tensor, wanted in zip(weights, of_weight, strict=True):
        reference.assert_close(tensor.grad, wanted, "weight")


@each_name
@pytest.mark.parametrize(("shape", "outputs"), [
    (None, ["features"]), ((CHANNELS,), ["features"]), ((CHANNELS,), ["background"]),
    ((BATCH, CHANNELS), ["features", "background"])], ids=str)
def test_gradients_by_differences(name, shape, outputs, rng):
    leaves, x = case(rng, 2, shape, count=5)
    function, *weight = operation(name)

    def total(features, *rest):
        y = function(x.with_features(features, rest[0] if shape else None), *rest[bool(shape):])
        assert (y.background is None) == (shape is None)
        return sum((part * part + part).sum() for part in (getattr(y, output) for output in outputs))

    assert sn.gradcheck(total, leaves + [sn.Tensor(array, requires_grad=True) for array in weight])


@each_name
def test_without_a_site(name, dtype):
    background = sn.Tensor(np.array([-1, 0.5, 2], dtype), requires_grad=True)
    x = sn.SparseTensor(np.zeros((0, CHANNELS), dtype), np.zeros((0, 3), int), (2, 2), 2, background)
    function, *weight = operation(name)
    weights = [sn.Tensor(array.astype(dtype), requires_grad=True) for array in weight]
    y = function(x, *weights)
    assert y.features.shape == (0, CHANNELS) and y.features.dtype == dtype
    grid = x.to_dense().numpy().astype(np.float64)
    reference.assert_close(y.to_dense(), dense(name, grid, grid)[0])
    y.to_dense().sum().backward()
    assert np.isfinite(background.grad).all() and all(np.isfinite(weight.grad).all() for weight in weights)


@pytest.mark.parametrize("name", [*reference.ACTIVATIONS, "prelu, one slope"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0), (3, 4), (2, 3, 4)], ids=str)
def test_tensors_of_any_shape(name, shape, rng, dtype):
    x = sn.Tensor(np.asarray(rng.standard_normal(shape), dtype), requires_grad=True)
    function, *weight = operation(name)
    y = function(x, *(sn.Tensor(array.astype(dtype)) for array in weight))
    assert y.shape == shape and y.dtype == dtype
    flat = x.array.astype(np.float64).reshape(-1, 1)
    expected, slopes, *_ = dense(name, flat, np.ones_like(flat))
    reference.assert_close(y, expected.reshape(shape))
    y.backward(np.ones(shape, dtype))
    reference.assert_close(x.grad, slopes.reshape(shape))


@each_name
def test_strided_arrays_and_inputs_that_stay_untouched(name, rng):
    array = rng.standard_normal((6, 8))
    before = array.copy()
    function, *weight = operation(name)
    weights = [sn.Tensor(given, requires_grad=True) for given in weight]
    for strided in (array[::2, ::3], array[:3, :5].T[:3].T):
        x = sn.Tensor(strided, requires_grad=True)
        function(x, *weights).sum().backward()
        assert np.array_equal(array, before)
        assert sn.gradcheck(lambda x, *weights: (function(x, *weights) ** 2).sum(), [x, *weights])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_softmax_over_an_axis(axis, rng, dtype):
    x = sn.Tensor(rng.standard_normal((3, 4, 5)).astype(dtype), requires_grad=True)
    e = np.exp(x.array.astype(np.float64))
    reference.assert_close(ops.softmax(x, axis), e / e.sum(axis=axis, keepdims=True))
    wide = sn.Tensor(rng.standard_normal((2, 3, 2)), requires_grad=True)
    assert sn.gradcheck(lambda x: (ops.softmax(x, axis=axis) ** 2).sum(), [wide])


def test_softmax_of_nothing_and_of_a_sparse_tensor_s_channels(rng):
    assert ops.softmax(sn.Tensor(np.zeros((0, 3)))).shape == (0, 3)
    assert ops.softmax(sn.Tensor(np.zeros((3, 0)))).shape == (3, 0)
    _, x = case(rng, 2, (CHANNELS,))
    first, last = ops.softmax(x, axis=1), ops.softmax(x)
    assert np.array_equal(first.features.array, last.features.array)
    np.testing.assert_allclose(first.to_dense().numpy().sum(axis=1), 1)


def test_at_zero_the_gradients_are_pytorch_s():
    for function, slope in ((lambda x: ops.elu(x, 0.7), 0.7), (ops.gelu, 0.5), (ops.silu, 0.5), (ops.tanh, 1),
                            (ops.sigmoid, 0.25), (lambda x: ops.prelu(x, sn.Tensor(np.array([0.3]))), 0.3)):
        x = sn.Tensor(np.zeros(1), requires_grad=True)
        function(x).backward()
        assert x.grad.tolist() == [slope]


@each_name
def test_no_overflow_and_no_nan_from_infinity(name, dtype):
    x = sn.Tensor(np.array([[-np.inf, -3e38, 0, 3e38, 90, -90]], dtype).T, requires_grad=True)
    function, *weight = operation(name)
    y = function(x, *(sn.Tensor(array[:1].astype(dtype)) for array in weight))
    y.sum().backward()
    if name == "softmax":
        assert np.isnan(y.array[0]).all()  # -infinity alone, as in PyTorch
        return
    assert not np.isnan(y.array).any() and not np.isnan(x.grad).any()


X, SPARSE = sn.Tensor(np.ones((2, 3))), sn.SparseTensor(np.ones((1, 3)), np.array([[0, 1]]), (3,), 1)


@pytest.mark.parametrize(("call", "error", "message"), [
    *[(lambda f=f: f(np.ones(2)), TypeError, f"{name}: the input is ndarray, expected a Tensor or SparseTensor")
      for f, name in ((ops.elu, "ELU"), (ops.gelu, "GELU"), (ops.silu, "SiLU"), (ops.tanh, "Tanh"),
                      (ops.sigmoid, "Sigmoid"), (ops.softmax, "Softmax"), (ops.leaky_relu, "LeakyReLU"))],
    (lambda: ops.prelu(np.ones(2), sn.Tensor([0.1])), TypeError, "PReLU: the input is ndarray, expected a Tensor or"),
    (lambda: ops.prelu(X, 0.1), TypeError, "PReLU: weight is float, expected a Tensor"),
    (lambda: ops.gelu(sn.Tensor([1, 2])), TypeError, "activation_forward: x is int64, expected float32 or float64"),
    (lambda: ops.elu(X, -1), ValueError, "ELU: alpha is -1, expected a finite number of at least 0"),
    (lambda: ops.elu(X, float("nan")), ValueError, "ELU: alpha is nan, expected a finite number"),
    (lambda: ops.elu(X, "1"), ValueError, "ELU: alpha is '1', expected a finite number"),
    (lambda: ops.prelu(X, sn.Tensor(np.ones(2))), ValueError, r"PReLU: x has 3 channels, weight has shape \(2,\): "
     "build the layer with channels=3, or 1 for one slope"),
    (lambda: ops.prelu(SPARSE, sn.Tensor(np.ones((3, 1)))), ValueError, r"weight has shape \(3, 1\)"),
    (lambda: ops.prelu(sn.Tensor(np.ones(3)), sn.Tensor(np.ones(3))), ValueError, r"PReLU: x has shape \(3,\), "
     r"expected \(B, C\), or a weight of shape \(1,\)"),
    (lambda: ops.prelu(X, sn.Tensor([0.1])), TypeError, "PReLU: weight is float32, x is float64: convert one of them"),
    (lambda: ops.softmax(X, 2), ValueError, "Softmax: axis is 2, the tensor has 2 axes: expected a number from"),
    (lambda: ops.softmax(X, None), TypeError, "Softmax: axis is None, expected an integer"),
    (lambda: ops.softmax(X, (0, 1)), TypeError, r"Softmax: axis is \(0, 1\), expected an integer"),
    *[(lambda axis=axis: ops.softmax(SPARSE, axis), ValueError, f"Softmax: axis is {axis}, expected -1 or 1, the "
       "channels of a SparseTensor") for axis in (0, 2, -2)],
])
def test_misfits_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
