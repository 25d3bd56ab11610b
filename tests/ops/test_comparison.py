"""Tensor == Tensor and its siblings: elementwise, as in NumPy; hash, `in` and `index` by identity."""

from __future__ import annotations

import operator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from sparsenet import Tensor, nn

COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("left", [np.array([1, 2, 3]), np.array([1, 2, 3], "f4"), np.array(2.0),
                                  np.array([[1.0], [3.0]]), np.array([np.nan, 2, -np.inf]), np.zeros((0, 3))])
class TestElementwise:
    @pytest.mark.parametrize("right", [np.array([3, 2, 1]), np.array([2.0, np.nan, 3.0]), np.array([[2, 2, 2]], "u1")])
    def test_tensors_and_arrays_on_either_side(self, compare, left, right):
        expected = compare(left, right)
        a, b = Tensor(left), Tensor(right)
        for result in (compare(a, b), compare(a, right), compare(left, b)):
            assert isinstance(result, Tensor) and result.dtype == bool
            np.testing.assert_array_equal(result.numpy(), expected)

    @pytest.mark.parametrize("right", [2, 2.0, np.float32(2), True, float("nan"), 10**30, -(10**30)])
    def test_numbers_on_either_side(self, compare, left, right):
        np.testing.assert_array_equal(compare(Tensor(left), right).numpy(), compare(left, right))
        np.testing.assert_array_equal(compare(right, Tensor(left)).numpy(), compare(right, left))

    @pytest.mark.parametrize("right", [[3, 2, 1], (2.0, 2.0, 2.5)])
    def test_lists(self, compare, left, right):
        np.testing.assert_array_equal(compare(Tensor(left), right).numpy(), compare(left, np.array(right)))


def test_a_number_and_a_list_are_rounded_as_the_tensor_is():
    x = Tensor(np.array([0.1, 0.2], np.float32))
    assert (x == 0.1).numpy().tolist() == [True, False] == (x == [0.1, 0.3]).numpy().tolist()
    assert (Tensor(np.array([0.1])) == [0.1]).numpy().tolist() == [True]
    assert (Tensor(np.array([0])) == [0.5]).numpy().tolist() == [False]


@pytest.mark.parametrize("other", [2 + 0j, Decimal(2), Fraction(2)])
def test_a_number_of_any_kind_is_compared(other):
    x = Tensor([1.0, 2.0, float("nan")])
    assert (x == other).numpy().tolist() == (other == x).numpy().tolist() == [False, True, False]
    assert (x != other).numpy().tolist() == [True, False, True]


def test_lists_of_different_lengths_raise():
    with pytest.raises(ValueError, match="Tensor: lists side by side differ in length or depth"):
        Tensor([1.0, 2.0]) == [[1.0], [2.0, 3.0]]  # noqa: B015
    with pytest.raises(ValueError, match="Tensor: lists side by side differ in length or depth"):
        Tensor([[1.0], [2.0, 3.0]])


def test_the_result_is_no_part_of_the_graph():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert not (x * 2 > x).requires_grad


@pytest.mark.parametrize("other", [None, "1.0", object(), ["a"], {}])
def test_what_holds_no_numbers_is_not_equal_and_has_no_order(other):
    x = Tensor([1.0])
    assert (x == other) is False and (x != other) is True
    with pytest.raises(TypeError, match="'<' not supported between"):
        x < other  # noqa: B015


def test_shapes_that_do_not_broadcast_raise():
    with pytest.raises(ValueError, match=r"lt: shapes are \(2,\) and \(3,\), expected shapes that broadcast"):
        Tensor([1.0, 2.0]) < Tensor([1.0, 2.0, 3.0])  # noqa: B015


@pytest.mark.parametrize(("value", "truth"), [([0.0], False), ([[2]], True), (0, False), (-1.5, True),
                                              (float("nan"), True), (np.array(False), False), (np.array([True]), True)])
def test_bool_is_that_of_the_one_element(value, truth):
    assert bool(Tensor(value)) is truth


@pytest.mark.parametrize("array", [np.zeros(2), np.ones((2, 1)), np.zeros((0, 3))])
def test_bool_float_and_item_of_several_elements_or_none_raise(array):
    with pytest.raises(ValueError, match=r"bool: the tensor has shape .*, expected one element: .*\.all\(\) or"):
        bool(Tensor(array))
    with pytest.raises(ValueError, match=r"float: the tensor has shape .*, expected one element: reduce it"):
        float(Tensor(array))
    with pytest.raises(ValueError, match=r"item: the tensor has shape .*, expected one element: reduce it"):
        Tensor(array).item()


def test_float_is_a_python_number():
    assert [type(float(Tensor(x))) for x in (np.float32(0.5), [[3]])] == [float, float]
    assert float(Tensor(np.float32(0.5))) == 0.5 and float(Tensor([[3]])) == 3.0


def test_hash_is_by_identity_so_tensors_are_keys():
    a, b = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    names = {a: "a", b: "b", nn.Parameter([1.0]): "c"}
    assert len(names) == 3 and names[a] == "a" and names[b] == "b"
    assert hash(a) == hash(a) and a in {a} and b not in {a}


def test_a_layer_prints_whether_it_has_a_bias_whatever_the_bias_is():
    assert repr(nn.Linear(2, 1)) == "Linear(2 -> 1)" and repr(nn.Linear(2, 3)) == "Linear(2 -> 3)"
    assert repr(nn.Linear(2, 1, bias=False)) == "Linear(2 -> 1, no bias)"
    assert repr(nn.SparseConv(1, 1, 2)) == "SparseConv(1 -> 1, 2/1)"
    assert repr(nn.SparseConv(1, 2, 2, bias=False)) == "SparseConv(1 -> 2, 2/1, no bias)"


# ---- masks ----

MASK, OTHER = np.array([[True, False, True], [False, False, True]]), np.array([True, True, False])


@pytest.mark.parametrize("combine", [operator.and_, operator.or_, operator.xor])
@pytest.mark.parametrize("other", [MASK[::-1], OTHER, True, np.bool_(False), np.zeros((0, 1, 3), bool)], ids=str)
def test_masks_are_combined_elementwise(combine, other):
    mask = Tensor(MASK)
    results = [combine(mask, other), combine(other, mask)]
    if isinstance(other, np.ndarray):
        results.append(combine(mask, Tensor(other)))
    for result in results:
        assert isinstance(result, Tensor) and result.dtype == bool
        np.testing.assert_array_equal(result.numpy(), combine(MASK, other))
    np.testing.assert_array_equal((~mask).numpy(), ~MASK)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: x & (x > 0), TypeError, r"&: an operand is float32, expected bool: compare first, and in brackets"),
    (lambda x: (x > 0) | 1, TypeError, r"\|: an operand is int, expected bool"),
    (lambda x: (x > 0) ^ np.ones(2), TypeError, r"\^: an operand is float64, expected bool"),
    (lambda x: ~x, TypeError, r"~: the operand is float32, expected bool: .* as in ~\(x > 0\)"),
    (lambda x: (x > 0) & np.ones(3, bool), ValueError, r"&: shapes are \(2,\) and \(3,\), expected shapes that"),
])
def test_what_is_not_a_mask_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Tensor([1.0, 2.0]))
