"""Lanes that hold a tile of an array (rows, channels): the channels of its first row, then those of the next, ...

    4 rows of 8 channels     lane  0 ... 7 | 8 ... 15 | 16 ... 23 | 24 ... 31
                             row   0       | 1        | 2         | 3

A row keeps its own total in a register until it ends, and the totals of all rows of a tile are found together; a sum
over the rows is loaded and stored once a tile.  Numbers of rows and channels are constants, powers of two.
"""

from __future__ import annotations

from collections.abc import Iterable

from llvmlite import ir
from numba.extending import intrinsic

from sparsenet.kernels.cpu.lanes import Lanes, constant

_INT = ir.IntType(32)


@intrinsic
def stacked(typing, first, second):
    """The rows of `first`, then those of `second`, as many"""

    def generate(context, builder, signature, arguments):
        return _picked(builder, *arguments, range(2 * first.width))

    return Lanes(first.element, 2 * first.width)(first, first), generate


@intrinsic(prefer_literal=True)
def row_of(typing, tile, row, rows):
    """Row number `row`, a constant"""
    width = tile.width // constant(rows, "rows")
    start = width * constant(row, "row")

    def generate(context, builder, signature, arguments):
        return _picked(builder, arguments[0], arguments[0], range(start, start + width))

    return Lanes(tile.element, width)(tile, row, rows), generate


@intrinsic(prefer_literal=True)
def lane_of(typing, lanes, place):
    """The number in the lane, a constant"""
    number = constant(place, "place")

    def generate(context, builder, signature, arguments):
        return builder.extract_element(arguments[0], _INT(number))

    return lanes.element(lanes, place), generate


@intrinsic(prefer_literal=True)
def in_each_row(typing, lanes, rows):
    """The same lanes in each of so many rows"""
    places = [*range(lanes.width)] * constant(rows, "rows")

    def generate(context, builder, signature, arguments):
        return _picked(builder, arguments[0], arguments[0], places)

    return Lanes(lanes.element, len(places))(lanes, rows), generate


@intrinsic(prefer_literal=True)
def along_rows(typing, lanes, width):
    """Lane i in each of the `width` channels of row i"""
    places = [i for i in range(lanes.width) for _ in range(constant(width))]

    def generate(context, builder, signature, arguments):
        return _picked(builder, arguments[0], arguments[0], places)

    return Lanes(lanes.element, len(places))(lanes, width), generate


@intrinsic(prefer_literal=True)
def sum_of_rows(typing, tile, rows):
    """The sum of the rows: of four, (row 0 + row 2) + (row 1 + row 3)"""
    width = tile.width // constant(rows, "rows")

    def generate(context, builder, signature, arguments):
        (joined,) = arguments[:1]
        while (half := joined.type.count // 2) >= width:
            low, high = (_picked(builder, joined, joined, range(start, start + half)) for start in (0, half))
            joined = builder.fadd(low, high)
        return joined

    return Lanes(tile.element, width)(tile, rows), generate


@intrinsic(prefer_literal=True)
def totals_of_rows(typing, tile, rows):
    """The total of each row: of 8 channels, 0-3 with 4-7, then 0-1 with 2-3, ..."""
    number = constant(rows, "rows")

    def generate(context, builder, signature, arguments):
        (joined,) = arguments[:1]
        while (half := joined.type.count // number // 2) > 0:
            low, high = (_picked(builder, joined, joined, [2 * half * row + start + i for row in range(number)
                                                           for i in range(half)]) for start in (0, half))
            joined = builder.fadd(low, high)
        return joined

    return Lanes(tile.element, number)(tile, rows), generate


def _picked(builder: ir.IRBuilder, first: ir.Value, second: ir.Value, places: Iterable[int]) -> ir.Value:
    """Lanes of both, which are numbered one after the other."""
    places = list(places)
    return builder.shuffle_vector(first, second, ir.VectorType(_INT, len(places))(places))
