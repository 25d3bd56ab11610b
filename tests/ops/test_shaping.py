"""transpose, permute, T, clone, concatenate, stack; reshape and indexing are in test_arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

import sparsenet as sn
from sparsenet import Tensor, gradcheck


def draw(rng, *shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


@pytest.mark.parametrize(("operate", "numpys"), [
    (lambda x: x.T, lambda a: a.T),
    (lambda x: x.transpose(0, 2), lambda a: a.swapaxes(0, 2)),
    (lambda x: x.transpose(-1, 1), lambda a: a.swapaxes(2, 1)),
    (lambda x: x.transpose(1, 1), lambda a: a),
    (lambda x: x.permute(2, 0, 1), lambda a: a.transpose(2, 0, 1)),
    (lambda x: x.permute((1, -1, 0)), lambda a: a.transpose(1, 2, 0)),
], ids=["T", "transpose", "negative", "same", "permute", "tuple"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 3, 1)], ids=str)
def test_orders_of_axes(operate, numpys, shape, rng, dtype):
    x = draw(rng, *shape, dtype=dtype)
    y = operate(x)
    assert y.dtype == dtype and np.array_equal(y.array, numpys(x.array)) and y.array.flags.c_contiguous
    weight = rng.standard_normal(y.shape).astype(dtype)
    y.backward(weight)
    assert x.grad.shape == shape
    assert gradcheck(lambda x: operate(x) * weight.astype(np.float64), [draw(rng, *shape)])


def test_a_product_with_a_transposed_matrix(rng):
    assert gradcheck(lambda a, b: a @ b.T, [draw(rng, 3, 4), draw(rng, 5, 4)])
    x = Tensor(3.0, requires_grad=True)
    x.T.backward()
    assert x.grad == 1 and Tensor([1.0, 2.0]).T.tolist() == [1, 2]


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: x.transpose(), TypeError, "transpose: got 0 axes, expected the two to exchange: use .T to reverse"),
    (lambda x: x.transpose(1, 0, 2), TypeError, "transpose: got 3 axes"),
    (lambda x: x.transpose(0, 3), ValueError, "transpose: axis is 3, the tensor has 3 axes"),
    (lambda x: x.permute(0, 1), ValueError, r"permute: axes are \(0, 1\), expected each of the 3 axes once"),
    (lambda x: x.permute(0, 0, 1), ValueError, r"permute: axes are \(0, 0, 1\), expected each once"),
])
def test_wrong_axes_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Tensor(np.zeros((2, 3, 4))))


def test_clone_has_memory_of_its_own_and_passes_the_gradient(rng):
    x = draw(rng, 3)
    y = x.clone()
    assert np.array_equal(y.array, x.array) and not np.shares_memory(y.array, x.array)
    x.array[:] = 0
    x.mark_modified()
    (y * y).sum().backward()  # the product saved the copy alone
    assert np.array_equal(x.grad, 2 * y.array)
    for shape in [(2, 0), (2,), ()]:
        assert gradcheck(Tensor.clone, [draw(rng, *shape)])
    with pytest.raises(TypeError, match=r"^Tensor.clone\(\) takes 1 positional argument"):
        x.clone(1)


@pytest.mark.parametrize(("shapes", "axis"), [
    ([(2, 3), (4, 3)], 0), ([(2, 3), (2, 1), (2, 2)], 1), ([(2, 3), (2, 1)], -1), ([(3,)], 0), ([(0, 3), (2, 3)], 0),
    ([(2, 0), (2, 0)], 1)], ids=str)
def test_concatenate(shapes, axis, rng, dtype):
    parts = [draw(rng, *shape, dtype=dtype) for shape in shapes]
    whole = sn.concatenate(parts, axis=axis)
    assert whole.dtype == dtype and np.array_equal(whole.array, np.concatenate([p.array for p in parts], axis=axis))
    weight = rng.standard_normal(whole.shape)
    assert gradcheck(lambda *parts: sn.concatenate(parts, axis) * weight, [draw(rng, *shape) for shape in shapes])


def test_a_part_without_a_gradient_and_one_that_comes_twice(rng):
    x, constant = draw(rng, 2), np.ones(2)
    y = sn.concatenate([x, constant, x])
    y.backward(np.arange(6.0))
    assert y.shape == (6,) and x.grad.tolist() == [4, 6]
    assert sn.concatenate([Tensor([1, 2]), Tensor([0.5])]).dtype == np.float32


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stack(axis, rng):
    parts = [draw(rng, 2, 3) for _ in range(3)]
    assert np.array_equal(sn.stack(parts, axis).array, np.stack([p.array for p in parts], axis))
    weight = rng.standard_normal(sn.stack(parts, axis).shape)
    assert gradcheck(lambda *parts: sn.stack(parts, axis) * weight, parts)
    assert sn.stack([Tensor(1.0), Tensor(2.0)]).tolist() == [1, 2]


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: sn.concatenate(x), TypeError, "concatenate: tensors is Tensor, expected a list of tensors"),
    (lambda x: sn.concatenate([]), ValueError, "concatenate: the list is empty, expected at least one tensor"),
    (lambda x: sn.concatenate([x, x.T]), ValueError, r"concatenate: shapes are \(2, 3\), \(3, 2\), expected such that"),
    (lambda x: sn.concatenate([x, x[0]]), ValueError, "concatenate: shapes are"),
    (lambda x: sn.concatenate([x.sum(), x.sum()]), ValueError, "concatenate: the tensors have no axes, .*sn.stack"),
    (lambda x: sn.concatenate([x, x], 2), ValueError, "concatenate: axis is 2, the tensor has 2 axes"),
    (lambda x: sn.stack([x, x.T]), ValueError, r"stack: shapes are \(2, 3\), \(3, 2\), expected the same for all"),
    (lambda x: sn.concatenate([sn.SparseTensor.from_dense(np.ones((1, 1, 2)))]), TypeError,
     r"concatenate: got SparseTensors, expected Tensors: use sn.ops.concatenate\(x, y\)"),
])
def test_lists_that_do_not_fit_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Tensor(np.zeros((2, 3))))
