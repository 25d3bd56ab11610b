"""The linear map against NumPy, its gradients, and shapes that do not fit."""

import numpy as np
import pytest
import reference
from reference import assert_close

from sparsenet import Tensor, gradcheck
from sparsenet.ops import linear


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
