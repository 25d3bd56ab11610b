"""Sixteen float32 numbers side by side: what a loop of Numba needs where the compiler may not reorder a sum.

Additions of floats have an order, so a compiler without licence to change it turns no sum over a row into vector
instructions.  Here the order is part of the program: number i of a row goes to lane i % 16, and the lanes are
joined by halves.  LLVM makes of sixteen lanes what the processor has (one register of AVX-512, two of AVX, four of
SSE or NEON), so that the bits are the same on all of them.

    largest = spread(-inf)                                       # a row of `count` numbers from `start` on
    for j in range(0, count - count % WIDTH, WIDTH):
        largest = maximum(load(x, start + j), largest)
    maximum_of(load_some(x, start + j, count - j, -inf), ...)    # the rest of it: fewer than 16

Arrays have one axis and are contiguous; indices are not checked.  `fma` rounds once everywhere; processors
without that instruction (x86 before 2013) emulate it slowly.  Numba's cache of a kernel does not see a change of
this file: remove `__pycache__` then.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16

_INT = ir.IntType(32)
_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_INTS = ir.VectorType(_INT, WIDTH)


class Lanes(types.Type):
    """The type, to Numba, of sixteen float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


LANES = Lanes()


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type):
        super().__init__(manager, kind, _FLOATS)


@intrinsic
def load(typing, array, index):
    """array[index : index + 16]"""

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature, arguments), align=4)

    return LANES(array, types.intp), generate


@intrinsic
def load_some(typing, array, index, count, rest):
    """array[index : index + count], and `rest` in the lanes behind; all sixteen where count is larger"""

    def generate(context, builder, signature, arguments):
        return _call(builder, "llvm.masked.load.v16f32.p0", _FLOATS, _pointer(context, builder, signature, arguments),
                     _INT(4), _first(builder, arguments[2]), _repeat(builder, arguments[3], _FLOATS))

    return LANES(array, types.intp, types.intp, types.float32), generate


@intrinsic
def store(typing, array, index, lanes):
    """array[index : index + 16] = lanes"""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _pointer(context, builder, signature, arguments), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), generate


@intrinsic
def store_some(typing, array, index, count, lanes):
    """array[index : index + count] = the first `count` lanes; all sixteen where count is larger"""

    def generate(context, builder, signature, arguments):
        _call(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), arguments[3],
              _pointer(context, builder, signature, arguments), _INT(4), _first(builder, arguments[2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, LANES), generate


def _prefetch(written: bool) -> Callable:
    """Begin to bring the line of array[index] near, which may lie beyond the array's end."""

    @intrinsic
    def operation(typing, array, index):
        def generate(context, builder, signature, arguments):
            _call(builder, "llvm.prefetch.p0", ir.VoidType(), _pointer(context, builder, signature, arguments),
                  _INT(int(written)), _INT(3), _INT(1))
            return context.get_dummy_value()

        return types.void(array, types.intp), generate

    return operation


prefetch = _prefetch(written=False)
prefetch_to_write = _prefetch(written=True)


@intrinsic
def spread(typing, number):
    """The same number in each lane"""
    return LANES(types.float32), lambda context, builder, signature, arguments: _repeat(builder, arguments[0], _FLOATS)


@intrinsic
def fma(typing, a, b, c):
    """a * b + c, rounded once"""

    def generate(context, builder, signature, arguments):
        return _call(builder, "llvm.fma.v16f32", _FLOATS, *arguments)

    return LANES(LANES, LANES, LANES), generate


@intrinsic
def times_power_of_two(typing, lanes, powers):
    """lanes * 2^n, n the whole number in the last 9 bits of `powers`; neither side subnormal"""

    def generate(context, builder, signature, arguments):
        lanes, powers = (builder.bitcast(argument, _INTS) for argument in arguments)
        return builder.bitcast(builder.add(lanes, builder.shl(powers, _INTS([23] * WIDTH))), _FLOATS)

    return LANES(LANES, LANES), generate


@intrinsic
def zero_below(typing, lanes, number, least):
    """lanes, 0 where number < least"""

    def generate(context, builder, signature, arguments):
        lanes, number, least = arguments
        return builder.select(builder.fcmp_ordered("<", number, least), _FLOATS([0.0] * WIDTH), lanes)

    return LANES(LANES, LANES, LANES), generate


def _larger(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _of_two(emit: Callable) -> Callable:
    """Lane by lane."""

    @intrinsic
    def operation(typing, a, b):
        return LANES(LANES, LANES), lambda context, builder, signature, arguments: emit(builder, *arguments)

    return operation


def _of_all(emit: Callable) -> Callable:
    """All lanes to one number: lanes 0-7 with 8-15, then 0-3 with 4-7, ..."""

    @intrinsic
    def operation(typing, lanes):
        def generate(context, builder, signature, arguments):
            (joined,), half = arguments, WIDTH // 2
            while half:
                low, high = (builder.shuffle_vector(joined, joined, ir.VectorType(_INT, half)(
                    list(range(start, start + half)))) for start in (0, half))
                joined, half = emit(builder, low, high), half // 2
            return builder.extract_element(joined, _INT(0))

        return types.float32(LANES), generate

    return operation


maximum = _of_two(_larger)  # the second where one is NaN
total_of = _of_all(ir.IRBuilder.fadd)
maximum_of = _of_all(_larger)


def _operator(symbol: Callable, emit: Callable) -> None:
    """`symbol` between lanes, in Numba's code."""
    function = _of_two(emit)

    @overload(symbol)
    def typed(a, b):
        if isinstance(a, Lanes) and isinstance(b, Lanes):
            return lambda a, b: function(a, b)


_operator(operator.add, ir.IRBuilder.fadd)
_operator(operator.sub, ir.IRBuilder.fsub)
_operator(operator.mul, ir.IRBuilder.fmul)

# exp(v) = 2^n exp(r), n = round(v / log 2), r = v - n log 2 in two steps, exp(r) a polynomial whose relative error on
# |r| <= log(2) / 2 is at most 3.1e-9 (a minimax fit).  Adding _SHIFT, 1.5 * 2^23, rounds to a whole number and leaves
# it in the last bits of the sum.
_PER_LOG_2, _SHIFT = np.float32(1.44269504088896341), np.float32(12582912.0)
_LOG_2_HIGH, _LOG_2_LOW = np.float32(-0.693359375), np.float32(2.12194440e-4)
_C6, _C5, _C4 = np.float32(0.00138144961), np.float32(0.00836875217), np.float32(0.0416683923)
_C3, _C2 = np.float32(0.166665203), np.float32(0.499999934)
_ONE, _LEAST = np.float32(1), np.float32(-86.6)


@numba.njit(nogil=True)
def exponential(v):
    """exp of numbers up to 0 with an error below 1 unit in the last place; 1 at 0; 0 below -86.6, where it is less
    than 2.5e-38, nearly the least normal number; NaN of NaN."""
    shifted = fma(v, spread(_PER_LOG_2), spread(_SHIFT))
    n = shifted - spread(_SHIFT)
    r = fma(n, spread(_LOG_2_LOW), fma(n, spread(_LOG_2_HIGH), v))
    p = fma(spread(_C6), r, spread(_C5))
    p = fma(p, r, spread(_C4))
    p = fma(p, r, spread(_C3))
    p = fma(p, r, spread(_C2))
    p = fma(p, r, spread(_ONE))
    p = fma(p, r, spread(_ONE))
    return zero_below(times_power_of_two(p, shifted), v, spread(_LEAST))


def _pointer(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
    """Where lanes begin that are at arguments[1] of the array arguments[0]."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.bitcast(builder.gep(data, [arguments[1]]), _FLOATS.as_pointer())


def _repeat(builder: ir.IRBuilder, number: ir.Value, kind: ir.VectorType) -> ir.Value:
    one = builder.insert_element(kind(ir.Undefined), number, _INT(0))
    return builder.shuffle_vector(one, one, _INTS([0] * WIDTH))


def _first(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """Which lanes are among the first `count`."""
    wide = ir.IntType(64)
    lanes = ir.VectorType(wide, WIDTH)
    counts = _repeat(builder, builder.sext(count, wide) if count.type.width < 64 else count, lanes)
    return builder.icmp_signed("<", lanes(list(range(WIDTH))), counts)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
