"""Functions of each element: values against NumPy, gradients by gradcheck, PyTorch's conventions as numbers."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from reference import assert_close

import sparsenet as sn
from sparsenet import Tensor, gradcheck
from sparsenet.ops.elementwise import FORMULAS

SHAPES = [(3, 4), (5,), (), (0, 3)]
BROADCASTS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((0, 3), (3,))]
NUMPY = {"sigmoid": lambda x: 1 / (1 + np.exp(-x))}
NAMES = (*FORMULAS, "tanh", "sigmoid")  # these two are activations


def positive(rng, *shape, dtype=np.float64):
    return Tensor(rng.uniform(0.5, 2, shape).astype(dtype), requires_grad=True)


def signed(rng, *shape, dtype=np.float64):
    """Away from 0."""
    return Tensor((rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape)).astype(dtype), requires_grad=True)


def gradient_of(function, values):
    """The values and the gradient of the sum."""
    x = Tensor(np.array(values, np.float64), requires_grad=True)
    y = function(x)
    y.sum().backward()
    return y.tolist(), x.grad.tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(name, shape, rng, dtype):
    draw = positive if name in ("log", "sqrt") else signed
    x = draw(rng, *shape, dtype=dtype)
    y = getattr(x, name)()
    assert y.dtype == dtype and y.shape == shape
    assert_close(y, NUMPY.get(name, getattr(np, name, None))(x.array.astype(np.float64)))
    y.backward(np.ones(shape, dtype))
    assert x.grad.dtype == dtype and x.grad.shape == shape
    assert gradcheck(operator.methodcaller(name), [draw(rng, *shape)])


@pytest.mark.parametrize("name", NAMES)
def test_strided_arrays_and_inputs_that_stay_untouched(name, rng):
    array = rng.uniform(0.5, 2, (4, 6))
    x = Tensor(array[:, ::2].T, requires_grad=True)
    before = array.copy()
    getattr(x, name)().sum().backward()
    assert np.array_equal(array, before)
    assert gradcheck(operator.methodcaller(name), [x])


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"abs"}))
def test_integers_and_truth_values_become_float32(name):
    for x in (Tensor([1, 2]), Tensor(np.array([True, True]))):
        y = getattr(x, name)()
        assert y.dtype == np.float32
        assert_close(y, NUMPY.get(name, getattr(np, name, None))(x.array.astype(np.float64)))
    assert abs(Tensor([-1, 2])).tolist() == [1, 2] and abs(Tensor([-1, 2])).dtype == np.int64


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_derivatives_where_there_is_none_are_pytorch_s():
    assert gradient_of(abs, [-2, 0, 3]) == ([2, 0, 3], [-1, 0, 1])
    assert gradient_of(Tensor.sqrt, [0, 4]) == ([0, 2], [np.inf, 0.25])
    assert gradient_of(Tensor.log, [0.5, 0])[1] == [2, np.inf]


def test_tanh_and_sigmoid_are_the_activations(rng, dtype):
    x = rng.standard_normal((3, 4)).astype(dtype)
    assert np.array_equal(Tensor(x).tanh().array, sn.ops.tanh(Tensor(x)).array)
    assert np.array_equal(Tensor(x).sigmoid().array, sn.ops.sigmoid(Tensor(x)).array)


def test_sigmoid_does_not_overflow(dtype):
    x = Tensor(np.array([-1e4, -80, 0, 80, 1e4], dtype), requires_grad=True)
    y = x.sigmoid()
    y.sum().backward()
    assert_close(y, np.array([0, np.exp(-80.0), 0.5, 1, 1]))
    assert np.isfinite(x.grad).all() and x.grad[2] == 0.25
    assert y.array[1] > 0  # 1 / (1 + e^80) without cancellation


def test_nan_stays():
    x = Tensor([np.nan])
    for y in (x.exp(), x.log(), x.sqrt(), x.tanh(), x.sigmoid(), x.abs(), x.clip(0, 1), sn.maximum(x, 1),
              sn.minimum(1, x)):
        assert np.isnan(y.item())


# ---- clip ----


@pytest.mark.parametrize("bounds", [(-1, 1), (-1, None), (None, 0.5), (0.25, 0.25)], ids=str)
def test_clip(bounds, rng, dtype):
    x = signed(rng, 3, 4, dtype=dtype)
    assert x.clip(*bounds).dtype == dtype
    assert np.array_equal(x.clip(*bounds).array, np.clip(x.array, *bounds))
    assert gradcheck(lambda x: x.clip(*bounds), [signed(rng, 5)])
    assert x.clip(min=bounds[0], max=bounds[1]).shape == (3, 4)


def test_the_gradient_of_clip_passes_at_its_bounds():
    assert gradient_of(lambda x: x.clip(-1, 1), [-2, -1, 0, 1, 2]) == ([-1, -1, 0, 1, 1], [0, 1, 1, 1, 0])


def test_clip_of_integers():
    assert Tensor([1, 5, 9]).clip(2, 6).tolist() == [2, 5, 6] and Tensor([1, 5]).clip(2, 6).dtype == np.int64
    assert Tensor([1, 5]).clip(max=2.5).tolist() == [1, 2.5]
    assert Tensor(np.zeros((0, 2))).clip(0, 1).shape == (0, 2) and Tensor(3.0).clip(0, 1).item() == 1


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((), TypeError, "clip: min and max are None, expected at least one number"),
    ((Tensor([1.0]),), TypeError, r"clip: min is Tensor, expected a number: .* use sn.maximum and sn.minimum"),
    ((0, "1"), TypeError, "clip: max is str, expected a number"),
    ((2, 1), ValueError, "clip: min is 2, max is 1, expected min <= max"),
])
def test_clip_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        Tensor([1.0]).clip(*arguments)


# ---- maximum, minimum, where ----


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_maximum_and_minimum(name, shapes, rng, dtype):
    a, b = (signed(rng, *shape, dtype=dtype) for shape in shapes)
    result = getattr(sn, name)(a, b)
    assert result.dtype == dtype and np.array_equal(result.array, getattr(np, name)(a.array, b.array))
    assert gradcheck(getattr(sn, name), [signed(rng, *shape) for shape in shapes])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_equal_elements_share_the_gradient(name):
    a, b = (Tensor(np.array(values), requires_grad=True) for values in ([1.0, 2.0, 3.0], [1.0, 5.0, 0.0]))
    getattr(sn, name)(a, b).backward(np.array([4.0, 4.0, 4.0]))
    first, second = ([2, 0, 4], [2, 4, 0]) if name == "maximum" else ([2, 4, 0], [2, 0, 4])
    assert a.grad.tolist() == first and b.grad.tolist() == second
    x = Tensor(np.array([1.0]), requires_grad=True)
    getattr(sn, name)(x, x).backward()
    assert x.grad.tolist() == [1]


def test_a_number_on_either_side():
    x = Tensor(np.array([-1, 2], np.float32), requires_grad=True)
    assert sn.maximum(x, 0).tolist() == sn.maximum(0.0, x).tolist() == [0, 2]
    assert sn.maximum(x, 0).dtype == sn.minimum(x, np.float64(1)).dtype == np.float32
    assert sn.minimum(1, 2).item() == 1


def test_where(rng, dtype):
    condition = rng.random((3, 4)) < 0.5
    a, b = signed(rng, 3, 4, dtype=dtype), signed(rng, 4, dtype=dtype)
    result = sn.where(Tensor(condition), a, b)
    assert result.dtype == dtype and np.array_equal(result.array, np.where(condition, a.array, b.array))
    result.sum().backward()
    assert np.array_equal(a.grad, condition.astype(dtype)) and np.array_equal(b.grad, (~condition).sum(axis=0))
    for shapes in BROADCASTS:
        for mask in (condition[0, 0], np.array([[True], [False]])[: 1 if shapes[0] == (3, 4) else None]):
            try:
                np.broadcast_shapes(mask.shape, *shapes)
            except ValueError:
                continue
            inputs = [signed(rng, *shape) for shape in shapes]
            assert gradcheck(lambda a, b, mask=mask: sn.where(np.asarray(mask), a, b), inputs)


def test_where_takes_numbers_and_keeps_gradients_that_are_not_finite_apart():
    x = Tensor(np.array([-1.0, 4.0]), requires_grad=True)
    y = sn.where(x > 0, x, 1).log()
    y.sum().backward()
    assert y.tolist() == [0, np.log(4)] and x.grad.tolist() == [0, 0.25]
    x.grad = None
    sn.where(x > 0, x, 0.0).backward(np.array([np.nan, 2.0]))
    assert x.grad.tolist() == [0, 2]


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: sn.where(x, x, x), TypeError, "where: condition is float64, expected a Tensor or array of bool"),
    (lambda x: sn.where([True, False], x, x), TypeError, "where: condition is list, expected a Tensor or array of"),
    (lambda x: sn.where(x > 0, x, np.ones(3)), ValueError, r"where: shapes are \(2,\), \(2,\) and \(3,\), expected"),
    (lambda x: sn.maximum(x, np.ones(3)), ValueError, r"maximum: shapes are \(2,\) and \(3,\), expected shapes that"),
    (lambda x: sn.minimum(x, np.ones(2, "f4")), TypeError, "minimum: dtypes are float64 and float32, expected the"),
    (lambda x: sn.maximum(x, "1"), TypeError, "expected a NumPy or CuPy array, got str"),
])
def test_misfits_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Tensor(np.array([1.0, 2.0])))
