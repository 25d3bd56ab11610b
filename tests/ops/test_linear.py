"""The linear map against NumPy, its gradients, and shapes that do not fit."""

import numpy as np
import pytest
import reference
from reference import assert_close

from sparsenet import SparseTensor, Tensor, gradcheck
from sparsenet.ops import convolution, linear
from sparsenet.sparse import Geometry


@pytest.mark.parametrize("batch, inputs, outputs", [(1, 1, 1), (5, 7, 3), (0, 4, 2), (200, 192, 40)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients(batch, inputs, outputs, with_bias, dtype, rng):
    x, weight, gradient = (rng.standard_normal(shape).astype(dtype) for shape in
                           [(batch, inputs), (inputs, outputs), (batch, outputs)])
    bias = rng.standard_normal(outputs).astype(dtype) if with_bias else None
    tensors = [None if a is None else Tensor(a, requires_grad=True) for a in (x, weight, bias)]
    y = linear(*tensors)
    assert_close(y, reference.linear(x, weight, bias))
    y.backward(gradient)
    for tensor, expected in zip(tensors, (gradient @ weight.T, x.T @ gradient, gradient.sum(axis=0)), strict=True):
        if tensor is not None:
            assert_close(tensor.grad, expected)


def test_gradcheck(rng):
    inputs = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in [(6, 5), (5, 4), (4,)]]
    assert gradcheck(linear, inputs)
    assert gradcheck(linear, inputs[:2])


def test_non_contiguous_inputs_are_copied_and_stay_untouched(rng):
    x, weight = rng.standard_normal((5, 6)).T, rng.standard_normal((3, 5)).T
    before = x.copy(), weight.copy()
    y = linear(Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True))
    assert_close(y, x @ weight)
    y.backward(np.ones((6, 3)))
    assert np.array_equal(x, before[0]) and np.array_equal(weight, before[1])


def test_gradients_that_nobody_needs_are_not_computed(rng):
    x = Tensor(rng.standard_normal((4, 3)))
    weight = Tensor(rng.standard_normal((3, 2)), requires_grad=True)
    linear(x, weight).backward(np.ones((4, 2)))
    assert x.grad is None and weight.grad is not None


def test_changing_the_weight_before_backward_is_caught(rng):
    x, weight = (Tensor(rng.standard_normal((3, 3)), requires_grad=True) for _ in range(2))
    y = linear(x, weight)
    weight.array = np.zeros((3, 3))
    with pytest.raises(RuntimeError, match="Linear"):
        y.backward(np.ones((3, 3)))


def test_misfits_raise():
    def ones(*shape, dtype=np.float32):
        return Tensor(np.ones(shape, dtype))

    with pytest.raises(ValueError, match="x has 3 channels, the weights expect 4: build the layer with in_features=3"):
        linear(ones(2, 3), ones(4, 5))
    with pytest.raises(ValueError, match=r"x has shape \(2, 3, 1\)"):
        linear(ones(2, 3, 1), ones(3, 5))
    with pytest.raises(ValueError, match=r"bias has shape \(4,\), expected \(5,\)"):
        linear(ones(2, 3), ones(3, 5), ones(4))
    with pytest.raises(TypeError, match="weight is float64, x is float32"):
        linear(ones(2, 3), ones(3, 5, dtype=np.float64))


@pytest.mark.parametrize("background", ["shared", "by sample", None])
@pytest.mark.parametrize("with_bias", [True, False])
def test_on_sites_it_is_a_convolution_of_one_cell(background, with_bias, dtype, rng):
    """Values everywhere, and all gradients; the background is mapped like a row."""
    coordinates = reference.random_coordinates(rng, 9, (4, 3, 4), 3, empty=(1,))
    shapes = [(9, 3), (3, 2), *([(2,)] if with_bias else [None]), {"shared": (3,), "by sample": (3, 3)}.get(background)]
    arrays = [None if shape is None else rng.standard_normal(shape).astype(dtype) for shape in shapes]
    gradient, found = rng.standard_normal((3, 2, 4, 3, 4)).astype(dtype), []
    for operation in (linear, lambda x, w, b: convolution(x, w.reshape(1, 3, 2), b, Geometry.make_submanifold(3, 1))):
        features, weight, bias, row = (None if a is None else Tensor(a, requires_grad=True) for a in arrays)
        x = SparseTensor(features, coordinates, (4, 3, 4), 3, row)
        y = operation(x, weight, bias)
        assert y.sites is x.sites and (y.background is None) == (row is None)
        dense = y.to_dense()
        dense.backward(gradient)
        found.append([dense.array, *(t.grad for t in (features, weight, bias, row) if t is not None)])
    for mine, its in zip(*found, strict=True):
        assert mine.shape == its.shape
        assert_close(mine, its)


def test_on_sites_gradients_by_differences_and_none_without_sites(rng):
    row = Tensor(rng.standard_normal(3), requires_grad=True)
    x = SparseTensor(np.zeros((0, 3)), np.zeros((0, 2), int), (4,), 2, row)
    some = SparseTensor(rng.standard_normal((2, 3)), np.array([[0, 1], [1, 3]]), (4,), 2, x.background)
    some.features.requires_grad = True
    parameters = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in [(3, 2), (2,)]]
    for given in (x, some):
        assert gradcheck(lambda *p, given=given: linear(given, *p).to_dense(), parameters)
        assert gradcheck(lambda x: linear(x, *parameters), [given])


def test_the_gradient_of_the_bias_of_many_sites_is_summed_in_float64():
    """2^24 + 1 + 1 ... which float32 would not count."""
    x = SparseTensor(np.ones((1001, 1), "f4"), np.argwhere(np.ones((1, 1001))), (1001,), 1)
    weight, bias = (Tensor(np.ones(shape, "f4"), requires_grad=True) for shape in [(1, 1), (1,)])
    gradient = np.ones((1001, 1), "f4")
    gradient[0] = 2**24
    linear(x, weight, bias).features.backward(gradient)
    assert bias.grad.tolist() == [2**24 + 1000]


def test_on_sites_channels_that_do_not_fit_are_named():
    x = SparseTensor(np.ones((1, 3), "f4"), np.array([[0, 1]]), (4,), 1)
    with pytest.raises(ValueError, match="Linear: x has 3 channels, the weights expect 2: build the layer with in_f"):
        linear(x, Tensor(np.ones((2, 2), "f4")))
