"""max, min, argmax, argmin against NumPy, ties as PyTorch documents them; sum and mean are in test_arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from sparsenet import Tensor, gradcheck

AXES = [None, 0, -1, (0, 2), [1], (2, 0, 1)]


def distinct(rng, *shape, dtype=np.float64):
    """No two elements closer than 0.1."""
    return Tensor((rng.permutation(np.prod(shape, dtype=int)).reshape(shape) / 10).astype(dtype), requires_grad=True)


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
def test_extremes(name, axis, keepdims, rng, dtype):
    x = distinct(rng, 2, 3, 4, dtype=dtype)
    result = getattr(x, name)(axis=axis, keepdims=keepdims)
    expected = getattr(x.array, name)(axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
    assert result.dtype == dtype and result.shape == np.shape(expected) and np.array_equal(result.array, expected)
    result.backward(np.ones(result.shape, dtype))
    assert x.grad.dtype == dtype and x.grad.sum() == result.size
    assert gradcheck(lambda x: getattr(x, name)(axis=axis, keepdims=keepdims), [distinct(rng, 2, 3, 4)])


TIES = np.array([[3.0, 1.0, 3.0], [3.0, 2.0, 2.0]])


@pytest.mark.parametrize(("axis", "gradient"), [
    (1, [[6, 0, 0], [6, 0, 0]]),  # torch.max(x, 1): to the first
    (-1, [[6, 0, 0], [6, 0, 0]]),
    (0, [[6, 0, 6], [0, 6, 0]]),
    (None, [[2, 0, 2], [2, 0, 0]]),  # torch.max(x): equal shares
    ((0, 1), [[2, 0, 2], [2, 0, 0]]),  # torch.amax
    ((1,), [[3, 0, 3], [6, 0, 0]]),
], ids=str)
def test_ties_of_max(axis, gradient):
    for sign, name in ((1, "max"), (-1, "min")):
        x = Tensor(sign * TIES, requires_grad=True)
        result = getattr(x, name)(axis=axis)
        result.backward(np.full(result.shape, 6.0))
        assert x.grad.tolist() == gradient


def test_nan_is_the_largest_and_the_smallest_and_gets_the_gradient():
    for axis in (None, 0):
        for name in ("max", "min"):
            x = Tensor(np.array([1.0, np.nan, 2.0]), requires_grad=True)
            y = getattr(x, name)(axis)
            y.backward(np.ones(()))
            assert np.isnan(y.item()) and x.grad.tolist() == [0, 1, 0]


def test_single_numbers_and_whole_numbers():
    x = Tensor(np.array(2.5), requires_grad=True)
    x.max().backward()
    assert x.grad.tolist() == 1 and x.min().item() == 2.5 and x.argmax().item() == 0
    assert gradcheck(Tensor.max, [Tensor(np.array(2.5), requires_grad=True)])
    assert Tensor([3, 1]).max().item() == 3 and Tensor([3, 1]).min().dtype == np.int64
    assert Tensor(np.array([False, True])).max().item() is True


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_the_first_index_of_an_extreme(name, axis, keepdims):
    x = Tensor(TIES, requires_grad=True)
    place = getattr(x, name)(axis, keepdims=keepdims)
    expected = getattr(TIES, name)(axis, keepdims=keepdims)
    assert place.dtype == np.int64 and not place.requires_grad and place.shape == np.shape(expected)
    assert np.array_equal(place.array, expected)


def test_accuracy_as_one_would_write_it():
    logits, labels = Tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0]]), np.array([1, 1, 1])
    assert float((logits.argmax(1) == labels).mean()) == pytest.approx(2 / 3)
    assert int((logits.argmax(1) == labels).sum()) == 2


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_nothing_has_no_extreme(name):
    x = Tensor(np.zeros((0, 3)), requires_grad=True)
    for axis in (None, 0):
        with pytest.raises(ValueError, match=rf"{name}: the tensor has shape \(0, 3\), expected at least one element"):
            getattr(x, name)(axis)
    y = getattr(x, name)(1)
    assert y.shape == (0,)
    if y.requires_grad:
        y.sum().backward()
        assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "argmax", "argmin"])
def test_axes_that_are_not_there(name):
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match=f"{name}: axis is 2, the tensor has 2 axes: expected a number from -2 to 1"
                       if name != "mean" else "sum: axis is 2"):
        getattr(x, name)(2)
    with pytest.raises(TypeError, match=f"{name}: arguments are called dim, expected axis .PyTorch's dim."):
        getattr(x, name)(dim=1)
    with pytest.raises(TypeError, match="axis is"):
        getattr(x, name)(1.0)


def test_axes_given_twice_and_several_for_an_index():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"max: axes are \(0, -2\), expected each once"):
        x.max((0, -2))
    with pytest.raises(TypeError, match=r"argmax: axis is \(0, 1\), expected one integer"):
        x.argmax((0, 1))
