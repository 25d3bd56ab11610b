"""Filter geometry: sizes, offsets, and what is refused."""

import numpy as np
import pytest

from sparsenet.sparse import ConvolutionStep, Geometry


def test_output_sizes_of_the_paper():
    conv, pool = Geometry.make(3, 2), Geometry.make(3, 3, 2)
    sizes = [(126,) * 3]
    for geometry in [conv, pool] * 5 + [conv]:
        sizes.append(geometry.output_size(sizes[-1]))
    assert [s[0] for s in sizes] == [126, 125, 62, 61, 30, 29, 14, 13, 6, 5, 2, 1]


@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation", "grid", "expected"),
    [(3, 1, 1, 1, 10, 10), (3, 2, 1, 1, 10, 5), (2, 2, 0, 1, 7, 3), (3, 1, 0, 2, 10, 6), (1, 3, 0, 1, 10, 4)],
)
def test_output_size_formula(size, stride, padding, dilation, grid, expected):
    assert Geometry.make(1, size, stride, padding, dilation).output_size((grid,)) == (expected,)


def test_offsets_are_row_major_last_axis_fastest():
    offsets = Geometry.make(2, (2, 3)).kernel_offsets
    assert offsets.dtype == np.int32
    assert offsets.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_equal_geometries_are_one_key():
    assert Geometry.make(3, 2) == Geometry.make(3, (2, 2, 2), 1, 0, (1, 1, 1))
    assert len({Geometry.make(3, 3, padding=1), Geometry.make_submanifold(3, 3)}) == 2


def test_sizes_may_be_arrays_of_integers():
    assert Geometry.make(2, np.array([2, 3]), np.int64(2), np.array([0, 1])) == Geometry.make(2, (2, 3), 2, (0, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Geometry.make(5, 2), "dimension is 5, expected 1 to 4"),
        (lambda: Geometry.make(3, (2, 2)), "kernel_size is .2, 2., expected 3 numbers"),
        (lambda: Geometry.make(3, 0), "kernel_size is 0, expected whole numbers from 1 to 2147483647"),
        (lambda: Geometry.make(3, (2, 0, 2)), "kernel_size is .2, 0, 2., expected whole numbers from 1"),
        (lambda: Geometry.make(3, 2, stride=0), "stride is 0, expected whole numbers from 1"),
        (lambda: Geometry.make(3, 2, padding=-1), "padding is -1, expected whole numbers from 0"),
        (lambda: Geometry.make(3, 2, stride=2**63), f"stride is {2**63}, expected whole numbers from 1 to 2147483647"),
        (lambda: Geometry.make(3, 2, stride=2**31), f"stride is {2**31}, expected whole numbers from 1 to 2147483647"),
        (lambda: Geometry.make(3, 2, padding=2**31), f"padding is {2**31}, expected"),
        (lambda: Geometry.make(3, 2, dilation=2**31), f"dilation is {2**31}, expected"),
        (lambda: Geometry.make(3, 2**11), "which is 8589934592 offsets, expected at most 2147483647: use a smaller"),
        (lambda: ConvolutionStep(Geometry.make(3, 2), (0, 8)), "channels are 0 -> 8, expected at least 1"),
        (lambda: ConvolutionStep(Geometry.make(3, 2), (8, 0)), "channels are 8 -> 0, expected at least 1"),
        (lambda: Geometry.make_submanifold(3, 5, 2**30), "reaches 2147483648 cells from its centre, expected at most"),
        (lambda: Geometry.make(3, 2.5), "kernel_size is 2.5, expected whole numbers"),
        (lambda: Geometry.make(3, "2"), "kernel_size is '2', expected whole numbers"),
        (lambda: Geometry.make(2, np.array([2.0, 2.0])), "kernel_size is .*, expected whole numbers"),
        (lambda: Geometry.make(3, np.array([2, 2])), "kernel_size is .2, 2., expected 3 numbers"),
        (lambda: Geometry.make(2.5, 2), "dimension is 2.5, expected a whole number, 1 to 4"),
        (lambda: Geometry.make_submanifold(3, 2), "expected odd numbers"),
        (lambda: Geometry.make(3, 5).output_size((4, 4, 4)), "does not fit a grid"),
        (lambda: Geometry.make(3, 2).output_size((4, 4)), "3 dimensions, the input's spatial size .4, 4. has 2"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_the_largest_numbers_that_kernels_take():
    largest = 2**31 - 1
    far = Geometry.make(1, 2, largest, largest, largest)
    assert far.output_size((2,)) == (2,) and Geometry.make_submanifold(1, 3, largest).padding == (largest,)
