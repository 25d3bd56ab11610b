"""Vectors of lanes: loads and stores, arithmetic against NumPy's, sums in their stated order."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from sparsenet.kernels.cpu import lanes, lanes_joined

NAN = np.float32(np.nan)
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
WIDTHS = pytest.mark.parametrize("width", [4, 16, 32])


def compiled(function):
    return numba.njit(function)


@WIDTHS
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32])
def test_a_vector_is_copied_from_one_place_to_another(rng, dtype, width):
    @compiled
    def copy(x, out):
        lanes.store(out, (2, 1), lanes.load(x, (1, 3), width))

    x, out = rng.integers(1, 99, (3, 50)).astype(dtype), np.zeros((4, 40), dtype)
    copy(x, out)
    expected = np.zeros_like(out)
    expected[2, 1 : 1 + width] = x[1, 3 : 3 + width]
    np.testing.assert_array_equal(out, expected)


def test_an_array_of_one_axis_has_a_number_as_index(rng):
    @compiled
    def copy(x, out, index):
        lanes.store(out, 1, lanes.load(x, index, 16))

    x, out = rng.standard_normal(40), np.zeros(20)
    copy(x, out, 7)
    np.testing.assert_array_equal(out, np.concatenate([[0], x[7:23], np.zeros(3)]))


def test_the_other_array_is_read_where_the_first_is_not_wanted():
    @compiled
    def choose(first, x, i, other, j, out):
        lanes.store(out, 0, lanes.load_either(first, x, (i, 1), other, j, 16))

    x, other, out = np.arange(40.0).reshape(2, 20), -np.arange(20.0), np.empty(16)
    choose(True, x, 1, other, 10**9, out)  # the index of what is not wanted may be anything
    np.testing.assert_array_equal(out, x[1, 1:17])
    choose(False, x, -(10**9), other, 4, out)
    np.testing.assert_array_equal(out, other[4:])


@WIDTHS
@FLOATS
@pytest.mark.parametrize("count", [-3, 0, 1, 3, 4, 15, 16, 17, 31, 32, 50])
def test_some_are_read_and_some_written(rng, dtype, width, count):
    @compiled
    def copy(x, out, read, write):
        lanes.store(out, 0, lanes.load_some(x, 2, read, 5, width))
        lanes.store_some(out, width, write, lanes.load(x, 0, width))

    x, out = rng.standard_normal(40).astype(dtype), np.full(2 * width, np.nan, dtype)
    copy(x, out, count, count)
    there = np.arange(width) < count
    np.testing.assert_array_equal(out[:width], np.where(there, x[2 : 2 + width], 5))
    np.testing.assert_array_equal(out[width:], np.where(there, x[:width], np.nan))


def test_what_is_left_out_is_not_touched():
    @compiled
    def copy(x, out):
        lanes.store_some(out, 0, x.size, lanes.load_some(x, 0, x.size, NAN, 16))

    memory = np.zeros(1 << 13, np.float32)
    border = memory.size - 3  # what lies behind it is another array
    copy(np.ones(3, np.float32), memory[border:])
    assert (memory[:border] == 0).all() and (memory[border:] == 1).all()


def test_wide_integers_are_cut():
    @compiled
    def cut(x, out):
        lanes.store(out, 0, lanes.load(x, 0, 16))

    x, out = np.arange(-8, 8, dtype=np.int32) * 70000, np.empty(16, np.int16)
    cut(x, out)
    np.testing.assert_array_equal(out, x.astype(np.int16))


@WIDTHS
def test_prefetching_changes_nothing_also_beyond_the_end(width):
    @compiled
    def ask(x, index):
        lanes.prefetch(x, index, width)
        lanes.prefetch(x.reshape(4, 10), (index, 3), width)

    x = np.arange(40.0)
    for index in (0, 39, 40, 1 << 40, -(1 << 40)):
        ask(x, index)
    np.testing.assert_array_equal(x, np.arange(40.0))


@FLOATS
def test_a_number_that_is_touched_stays(rng, dtype):
    @compiled
    def touch(x):
        for i in range(x.shape[0]):
            lanes.touch(x, (i, 3))

    x = rng.standard_normal((4, 10)).astype(dtype)
    before = x.copy()
    touch(x)
    np.testing.assert_array_equal(x, before)
    (code,) = touch.inspect_llvm().values()
    assert "load atomic" in code  # LLVM did not drop it


@pytest.mark.parametrize("number", [np.float32(0.1), 0.1, np.int16(-7), np.int64(1 << 40)])
def test_a_number_is_spread(number):
    @compiled
    def fill(number, out):
        lanes.store(out, 0, lanes.spread(number, 32))

    out = np.zeros(33, np.asarray(number).dtype)
    fill(number, out)
    assert (out[:32] == number).all() and out[32] == 0


@FLOATS
def test_arithmetic(rng, dtype):
    @compiled
    def compute(a, b, c, number, out):
        x, y, z = lanes.load(a, 0, 16), lanes.load(b, 0, 16), lanes.load(c, 0, 16)
        lanes.store(out, (0, 0), x + y)
        lanes.store(out, (1, 0), x - y)
        lanes.store(out, (2, 0), x * y)
        lanes.store(out, (3, 0), x + number)
        lanes.store(out, (4, 0), number - x)
        lanes.store(out, (5, 0), x * number)
        lanes.store(out, (6, 0), lanes.maximum(x, y))
        lanes.store(out, (7, 0), lanes.maximum(number, x))
        lanes.store(out, (8, 0), lanes.fma(x, y, z))
        lanes.store(out, (9, 0), lanes.fma(x, number, number))
        lanes.store(out, (10, 0), x / y)
        lanes.store(out, (11, 0), number / x)
        lanes.store(out, (12, 0), x / number)

    a, b, c = rng.standard_normal((3, 16)).astype(dtype)
    number, out = dtype(0.3), np.empty((13, 16), dtype)
    compute(a, b, c, number, out)
    np.testing.assert_array_equal(out[:8], [a + b, a - b, a * b, a + number, number - a, a * number, np.maximum(a, b),
                                            np.maximum(number, a)])
    rounding = 4 * np.finfo(dtype).eps
    np.testing.assert_array_equal(out[10:], [a / b, number / a, a / number])
    np.testing.assert_allclose(out[8:10], [a * b + c, a * number + number], rtol=rounding, atol=rounding)


def test_a_product_is_rounded_after_the_addition():
    @compiled
    def compute(a, b, c, out):
        lanes.store(out, 0, lanes.fma(lanes.load(a, 0, 16), lanes.load(b, 0, 16), c))

    a, b = np.full(16, 1 + 2.0**-12, np.float32), np.full(16, 1 - 2.0**-12, np.float32)
    out = np.empty_like(a)
    compute(a, b, np.float32(-1), out)
    assert (out == -(2.0**-24)).all()  # the product alone would be rounded to 1


@FLOATS
def test_numbers_without_their_signs(rng, dtype):
    @compiled
    def compute(a, out):
        lanes.store(out, 0, lanes.absolute(lanes.load(a, 0, 16)))

    a, out = rng.standard_normal(16).astype(dtype), np.empty(16, dtype)
    a[:4] = -0.0, -np.inf, np.nan, -np.nan
    compute(a, out)
    np.testing.assert_array_equal(out, np.abs(a))
    assert not np.signbit(out).any()


@FLOATS
def test_square_roots(rng, dtype):
    @compiled
    def compute(a, out):
        lanes.store(out, 0, lanes.root(lanes.load(a, 0, 16)))

    a, out = rng.uniform(0, 9, 16).astype(dtype), np.empty(16, dtype)
    a[:4] = 0, np.inf, np.nan, -1
    compute(a, out)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(out, np.sqrt(a))


@FLOATS
def test_doubles_are_rounded_to_the_type_of_an_array(rng, dtype):
    @compiled
    def compute(a, out):
        lanes.store(out, 0, lanes.rounded(lanes.load(a, 0, 16), out))

    a, out = rng.standard_normal(16), np.empty(16, dtype)
    compute(a, out)
    np.testing.assert_array_equal(out, a.astype(dtype))


def test_the_second_is_the_maximum_where_one_is_nan():
    @compiled
    def compute(a, b, out):
        lanes.store(out, 0, lanes.maximum(lanes.load(a, 0, 4), lanes.load(b, 0, 4)))

    out = np.empty(4, np.float32)
    compute(np.array([NAN, 1, 2, NAN], np.float32), np.array([3, NAN, 1, NAN], np.float32), out)
    np.testing.assert_array_equal(out, [3, NAN, 2, NAN])


@FLOATS
def test_comparisons_choose_as_those_of_numpy_do(rng, dtype):
    @compiled
    def compute(a, b, number, out):
        x, y = lanes.load(a, 0, 32), lanes.load(b, 0, 32)
        lanes.store(out, (0, 0), lanes.select(x < y, x, y))
        lanes.store(out, (1, 0), lanes.select(x > y, x, y))
        lanes.store(out, (2, 0), lanes.select(x != y, x, number))
        lanes.store(out, (3, 0), lanes.select(x > number, number, y))

    a, b = rng.integers(-2, 3, (2, 32)).astype(dtype)
    a[3], b[5], a[7], b[7] = np.nan, np.nan, np.nan, np.nan
    number, out = dtype(1), np.empty((4, 32), dtype)
    compute(a, b, number, out)
    np.testing.assert_array_equal(out, [np.where(a < b, a, b), np.where(a > b, a, b), np.where(a != b, a, number),
                                        np.where(a > number, number, b)])


def test_floats_choose_among_integers(rng):
    @compiled
    def compute(a, number, out):
        lanes.store(out, 0, lanes.select(lanes.load(a, 0, 16) > np.float32(0), number, lanes.spread(np.int32(-1), 16)))

    a, out = rng.standard_normal(16).astype(np.float32), np.empty(16, np.int32)
    compute(a, np.int32(4), out)
    np.testing.assert_array_equal(out, np.where(a > 0, 4, -1))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
@pytest.mark.parametrize("width", [4, 32, 64])
def test_truth_values_of_integers_as_bits(rng, dtype, width):
    @compiled
    def bits(x, number):
        return lanes_joined.bits_of(lanes.load(x, 0, width) > number)

    x = rng.integers(-3, 4, width).astype(dtype)
    x[-1] = 3
    expected = sum(1 << i for i in range(width) if x[i] > -1)
    assert bits(x, dtype(-1)) % 2**64 == expected  # bit 63 is the sign


@WIDTHS
@FLOATS
def test_lanes_are_joined_by_halves(rng, dtype, width):
    @compiled
    def join(x):
        row = lanes.load(x, 0, width)
        return lanes_joined.total_of(row), lanes_joined.maximum_of(row)

    row = rng.standard_normal(width).astype(dtype)
    total, largest = join(row)
    joined = row
    while len(joined) > 1:
        joined = joined[: len(joined) // 2] + joined[len(joined) // 2 :]
    assert total == joined[0] and largest == row.max()


class TestWhatIsRefused:
    def test_a_width_that_is_not_constant(self):
        @compiled
        def read(x, width):
            return lanes_joined.total_of(lanes.load(x, 0, width))

        with pytest.raises(TypingError, match="lanes: width is int64, expected a constant"):
            read(np.zeros(16), 16)

    def test_an_array_that_is_not_contiguous(self):
        @compiled
        def read(x):
            return lanes_joined.total_of(lanes.load(x, 0, 16))

        with pytest.raises(TypingError, match="expected C-contiguous: copy it"):
            read(np.zeros(32)[::2])

    @pytest.mark.parametrize("number", [1.0, 1])
    def test_numbers_of_another_type(self, number):
        @compiled
        def compute(x, number):
            return lanes_joined.total_of(lanes.load(x, 0, 16) + number)

        with pytest.raises(TypingError, match="expected one type: convert the numbers"):
            compute(np.zeros(16, np.float32), number)

    def test_lanes_of_two_widths(self):
        @compiled
        def compute(x):
            return lanes_joined.total_of(lanes.load(x, 0, 16) * lanes.load(x, 0, 8))

        with pytest.raises(TypingError, match="expected one type"):
            compute(np.zeros(16, np.float32))

    def test_sums_of_integers(self):
        @compiled
        def compute(x, out):
            lanes.store(out, 0, lanes.load(x, 0, 16) + lanes.load(x, 0, 16))

        with pytest.raises(TypingError):
            compute(np.zeros(16, np.int32), np.zeros(16, np.int32))
