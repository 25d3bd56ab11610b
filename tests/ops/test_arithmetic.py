"""Operators of Tensor against NumPy, their gradients, and what they refuse."""

import operator
from fractions import Fraction

import numpy as np
import pytest
from reference import assert_close

from sparsenet import Tensor, gradcheck

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv]
BROADCASTS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 3), (4, 1)),
              ((0, 3), (3,))]


def draw(rng, *shape, dtype=np.float64):
    """Away from 0, so that division is smooth."""
    return (rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape)).astype(dtype)


def tensor(rng, *shape, dtype=np.float64):
    return Tensor(draw(rng, *shape, dtype=dtype), requires_grad=True)


@pytest.mark.parametrize("operate", BINARY)
@pytest.mark.parametrize("a_shape, b_shape", BROADCASTS)
def test_binary_operators_broadcast(operate, a_shape, b_shape, rng, dtype):
    a, b = tensor(rng, *a_shape, dtype=dtype), tensor(rng, *b_shape, dtype=dtype)
    result = operate(a, b)
    assert result.dtype == dtype
    assert_close(result, operate(a.array, b.array))
    result.backward(np.ones_like(result.array))
    assert a.grad.shape == a.shape and b.grad.shape == b.shape and a.grad.dtype == dtype


@pytest.mark.parametrize("operate", BINARY)
@pytest.mark.parametrize("a_shape, b_shape", BROADCASTS)
def test_gradcheck_of_binary_operators(operate, a_shape, b_shape, rng):
    assert gradcheck(operate, [tensor(rng, *a_shape), tensor(rng, *b_shape)])


@pytest.mark.parametrize("operate", BINARY)
def test_numbers_and_arrays_on_either_side(operate, rng, dtype):
    a, array = tensor(rng, 3, 4, dtype=dtype), draw(rng, 4, dtype=dtype)
    for other in (2, 2.5, np.float64(2.5), np.float32(2.5), array):
        for result, expected in [(operate(a, other), operate(a.array, other)),
                                 (operate(other, a), operate(other, a.array))]:
            assert isinstance(result, Tensor) and result.dtype == dtype
            assert_close(result, expected.astype(dtype))
    assert gradcheck(lambda x: operate(x, 2.5), [tensor(rng, 3)])
    assert gradcheck(lambda x: operate(2.5, x), [tensor(rng, 3)])


def test_a_tensor_with_itself(rng):
    for operate in BINARY:
        assert gradcheck(lambda x, operate=operate: operate(x, x), [tensor(rng, 3)])


@pytest.mark.parametrize("exponent", [2, 3, -1, 1, 0])
def test_power_of_any_number(exponent, rng):
    x = tensor(rng, 3, 4)
    assert_close(x**exponent, x.array ** float(exponent))
    assert gradcheck(lambda x: x**exponent, [x])


def test_power_of_positive_numbers_and_zero(rng):
    x = Tensor(rng.uniform(0.5, 2, 5), requires_grad=True)
    assert gradcheck(lambda x: x**0.5, [x])
    zero = Tensor(np.zeros(3), requires_grad=True)
    (zero**2 + zero**1 + zero**0).sum().backward()
    assert np.array_equal(zero.grad, [1, 1, 1])


def test_negation(rng):
    x = tensor(rng, 3)
    assert np.array_equal((-x).array, -x.array)
    assert gradcheck(operator.neg, [x])


@pytest.mark.parametrize("a_shape, b_shape", [((5, 4), (4, 3)), ((0, 4), (4, 3)), ((2, 0), (0, 3))])
def test_matrix_product(a_shape, b_shape, rng):
    a, b = tensor(rng, *a_shape), tensor(rng, *b_shape)
    assert_close(a @ b, a.array @ b.array)
    assert gradcheck(operator.matmul, [a, b])
    assert gradcheck(operator.matmul, [a, b.detach()])
    assert_close(a.array @ b, a.array @ b.array)


def test_matrix_product_of_transposed_arrays(rng):
    a, b = Tensor(draw(rng, 4, 5).T, requires_grad=True), Tensor(draw(rng, 3, 4).T, requires_grad=True)
    assert_close(a @ b, a.array @ b.array)
    assert gradcheck(operator.matmul, [a, b])


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), [1]], ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_sum_and_mean(axis, keepdims, name, rng, dtype):
    x = tensor(rng, 2, 3, 4, dtype=dtype)
    result = getattr(x, name)(axis=axis, keepdims=keepdims)
    numpys = tuple(axis) if isinstance(axis, list) else axis
    assert result.dtype == dtype
    assert_close(result, getattr(x.array.astype(np.float64), name)(axis=numpys, keepdims=keepdims))
    assert gradcheck(lambda x: getattr(x, name)(axis=axis, keepdims=keepdims), [tensor(rng, 2, 3, 4)])


def test_sum_and_mean_of_nothing():
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    assert x.sum().item() == 0 and np.isnan(x.mean().item())
    assert np.array_equal(x.sum(axis=0).array, np.zeros(3)) and x.mean(axis=1).shape == (0,)
    x.sum().backward()
    assert x.grad.shape == (0, 3)


def test_reshape(rng):
    x = tensor(rng, 2, 6)
    for result in (x.reshape(3, 4), x.reshape((3, 4)), x.reshape(3, -1), x.reshape([3, 4])):
        assert np.array_equal(result.array, x.array.reshape(3, 4))
    assert gradcheck(lambda x: x.reshape(-1) * np.arange(12.0), [x])


INDICES = {
    "number": 1, "negative": -1, "slice": slice(1, 4, 2), "several": (slice(None), 2), "ellipsis": (..., 0),
    "new axis": (None, slice(1, 2)), "mask": np.arange(5) % 2 == 0, "rows": np.array([3, 0, 3, 3, 1]),
    "negative rows": np.array([-1, 4, 0]), "no rows": np.zeros(0, np.int64), "table": np.array([[0, 0], [4, 0]]),
    "list": [2, 2, 0], "pairs": (np.array([0, 0, 4]), np.array([1, 1, 2])),
    "column": (slice(None), np.array([2, 2, 0])),
    "tensor": Tensor(np.array([1, 1, 2])), "full mask": np.arange(15).reshape(5, 3) % 2 == 0,
    "last": (..., np.array([0, 0])), "int32": np.array([2, 2], np.int32),
}


@pytest.mark.parametrize("name", INDICES)
def test_indexing(name, rng, dtype):
    index = INDICES[name]
    numpys = index.array if isinstance(index, Tensor) else index
    x = tensor(rng, 5, 3, dtype=dtype)
    result = x[index]
    assert np.array_equal(result.array, x.array[numpys])
    weight = rng.standard_normal(result.shape).astype(dtype)
    result.backward(weight)
    expected = np.zeros((5, 3), np.float64)
    np.add.at(expected, numpys, weight)
    assert_close(x.grad, expected)
    assert gradcheck(lambda x: x[index], [tensor(rng, 5, 3)])


def test_gathering_rows_of_a_vector_and_of_an_empty_matrix(rng):
    assert gradcheck(lambda x: x[np.array([1, 1, 0])], [tensor(rng, 4)])
    x = Tensor(np.zeros((5, 0)), requires_grad=True)
    x[np.array([1, 1])].sum().backward()
    assert x.grad.shape == (5, 0)


def test_inputs_stay_untouched(rng):
    a, b = tensor(rng, 3, 3), tensor(rng, 3, 3)
    before = a.array.copy(), b.array.copy()
    ((a + b) * a / b - a @ b + a**2 - (-b))[:2].reshape(-1).mean().backward()
    assert np.array_equal(a.array, before[0]) and np.array_equal(b.array, before[1])


def test_an_expression_of_many_operators(rng):
    def function(a, b):
        return (((a * b + 1) / (b**2 + 1)) @ a.reshape(3, 4))[1:].mean(axis=0) - b.sum()

    assert gradcheck(function, [tensor(rng, 4, 3), tensor(rng, 3)])


def test_floating_point_dtypes_are_not_mixed_unnoticed(rng):
    x = tensor(rng, 3, dtype=np.float32)
    with pytest.raises(TypeError, match="Multiply: dtypes are float32 and float64"):
        x * np.ones(3)
    with pytest.raises(TypeError, match="Add: dtypes are float32 and float64"):
        x + Tensor(np.ones(3))


F32, F64, I8, I64, FLAG = (np.array([1, 0, 1], name) for name in ("f4", "f8", "i1", "i8", "?"))


@pytest.mark.parametrize(("a", "b", "dtype"), [  # as torch.result_type
    (F32, 2, "f4"), (F32, 2.5, "f4"), (F32, True, "f4"), (F32, np.float64(2.5), "f4"), (F32, np.int64(2), "f4"),
    (F32, np.float32(2), "f4"), (F32, Fraction(1, 2), "f4"), (F32, [1, 2, 3], "f4"), (F64, [0.1, 0.2, 0.3], "f8"),
    (F64, 2, "f8"), (F64, np.float32(2.5), "f8"), (F64, np.float16(2.5), "f8"),
    (F32, I64, "f4"), (F32, I8, "f4"), (F32, FLAG, "f4"), (F64, I64, "f8"), (F64, FLAG, "f8"),
    (F32, np.array(2.0), "f4"), (F64, np.array(2.0, "f4"), "f8"), (F32, np.array(2), "f4"),
    (I64, np.array(2.0), "f8"), (I64, 2, "i8"), (I64, 2.5, "f4"), (I8, 2, "i1"), (I8, np.int64(2), "i1"),
    (I8, I64, "i8"), (I64, FLAG, "i8"), (I8, True, "i1"), (FLAG, 2, "i8"), (FLAG, 2.5, "f4"),
    (np.array(2.0), 3, "f8"), (np.array(2), 0.5, "f4"),
])
def test_the_dtype_of_mixed_operands(a, b, dtype):
    expected = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    for result in (Tensor(a) * b, b * Tensor(a), Tensor(a) * Tensor(b) if isinstance(b, np.ndarray) else Tensor(a) * b):
        assert result.dtype == np.dtype(dtype)
        np.testing.assert_allclose(result.array, expected, rtol=1e-6)
    quotient = Tensor(a) / (b if not isinstance(b, np.ndarray) or b.all() else 2)
    assert quotient.dtype == (np.dtype(dtype) if np.dtype(dtype).kind == "f" else np.float32)


def test_dtypes_that_have_none_in_common():
    with pytest.raises(TypeError, match="Add: dtypes are int64 and uint64, expected the same"):
        Tensor(I64) + np.array([1, 2, 3], np.uint64)
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got complex"):
        Tensor(F32) * 2j
    with pytest.raises(TypeError, match=r"Multiply: a list holds <U1, expected real numbers"):
        Tensor(F32) * ["a", "b", "c"]
    with pytest.raises(OverflowError, match="300 out of bounds for int8"):
        Tensor(I8) + 300


def test_a_scalar_tensor_of_another_dtype_gets_its_gradient_in_its_own():
    x, scale = Tensor(F32, requires_grad=True), Tensor(np.array(2.0), requires_grad=True)
    (x * scale).sum().backward()
    assert scale.grad.dtype == np.float64 and scale.grad == 2 and x.grad.tolist() == [2, 2, 2]


def test_masks_and_counts_in_a_formula():
    x = Tensor(np.array([1.0, -2.0, 3.0], np.float32), requires_grad=True)
    ((x > 0) * x).sum().backward()
    assert x.grad.tolist() == [1, 0, 1]
    assert (x > 0).mean().item() == pytest.approx(2 / 3) and (x > 0).sum().item() == 2
    assert (Tensor(I64).mean().dtype, Tensor(I64).sum().dtype) == (np.float32, np.int64)


def test_powers_of_integers():
    assert (Tensor([2, 3]) ** 2).dtype == np.int64 and (Tensor([2, 3]) ** 2).tolist() == [4, 9]
    assert (Tensor([4, 9]) ** 0.5).dtype == np.float32 and (Tensor([4, 9]) ** 0.5).tolist() == [2, 3]


def test_misfits_raise(rng):
    with pytest.raises(ValueError, match=r"MatMul: shapes are \(3, 4\) and \(3, 4\), expected \(M, K\) and \(K, N\)"):
        tensor(rng, 3, 4) @ tensor(rng, 3, 4)
    with pytest.raises(ValueError, match="MatMul"):
        tensor(rng, 3) @ tensor(rng, 3)
    with pytest.raises(TypeError, match="exponent is Tensor"):
        tensor(rng, 3) ** tensor(rng, 3)


@pytest.mark.parametrize(("operate", "message"), [
    (lambda a, b: a + b, r"Add: shapes are \(2, 3\) and \(4,\), expected shapes that broadcast"),
    (lambda a, b: b.array - a, r"Subtract: shapes are \(4,\) and \(2, 3\)"),
    (lambda a, b: a * b, "Multiply: shapes"),
    (lambda a, b: a / b, "Divide: shapes"),
    (lambda a, b: a.sum(dim=1), "sum: arguments are called dim, expected axis"),
    (lambda a, b: a.mean(1, keepdim=True), "mean: arguments are called keepdim, expected axis .* keepdims"),
])
def test_wrong_shapes_and_names_are_named(operate, message, rng):
    with pytest.raises((ValueError, TypeError), match=message):
        operate(tensor(rng, 2, 3), tensor(rng, 4))


def test_length_and_item():
    assert len(Tensor(np.zeros((4, 2)))) == 4
    assert Tensor(np.array([2.5])).item() == 2.5
