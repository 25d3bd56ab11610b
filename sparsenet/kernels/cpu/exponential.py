"""exp and exp - 1 of float32 lanes: the same bits on every processor, without a vector library.

    exp(v) = 2^n exp(r)        n = round(v / log 2)        r = v - n log 2, subtracted in two steps
    exp(v) - 1 = 2^n (exp(r) - 1) + (2^n - 1)              nothing cancels: for small v n is 0

n is added to the bits of the exponent; exp(r) is a polynomial whose relative error on |r| <= log(2) / 2 is at
most 3.1e-9 (a minimax fit), that of exp(r) - 1 at most 2e-8.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from sparsenet.kernels.cpu.lanes import fma, select

_PER_LOG_2 = np.float32(1.44269504088896341)
_SHIFT = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to a whole number, in the last bits of the sum
_LOG_2_HIGH, _LOG_2_LOW = np.float32(-0.693359375), np.float32(2.12194440e-4)
_C6, _C5, _C4 = np.float32(0.00138144961), np.float32(0.00836875217), np.float32(0.0416683923)
_C3, _C2 = np.float32(0.166665203), np.float32(0.499999934)
_ONE, _ZERO, _MINUS_ONE, _LOWEST = np.float32(1), np.float32(0), np.float32(-1), np.float32(-86.6)
_BITS_OF_ONE = 127 << 23


@numba.njit(nogil=True)
def exponential(v):
    """exp of float32 up to 0 with an error below 1 unit in the last place; 1 at 0; 0 below -86.6, where it is less
    than 2.5e-38, nearly the smallest normal number; NaN of NaN."""
    shifted = fma(v, _PER_LOG_2, _SHIFT)
    r = _rest(v, shifted)
    p = fma(fma(_bend(r), r, _ONE), r, _ONE)
    e = _times_power_of_two(p, shifted)
    return select(v < _LOWEST, _ZERO, fma(v, _ZERO, e))  # e, or NaN, whose last bits are no exponent


@numba.njit(nogil=True)
def exponential_minus_one(v):
    """exp(v) - 1 of float32 up to 0 with an error of at most 1 unit in the last place, for small v too; -1 below -86.6;
    NaN of NaN."""
    shifted = fma(v, _PER_LOG_2, _SHIFT)
    r = _rest(v, shifted)
    power = _power_of_two(shifted)
    return select(v < _LOWEST, _MINUS_ONE, fma(power, fma(_bend(r), r * r, r), power - _ONE))


@numba.njit(nogil=True)
def _rest(v, shifted):
    """r"""
    n = shifted - _SHIFT
    return fma(n, _LOG_2_LOW, fma(n, _LOG_2_HIGH, v))


@numba.njit(nogil=True)
def _bend(r):
    """(exp(r) - 1 - r) / r^2"""
    p = fma(_C6, r, _C5)
    p = fma(p, r, _C4)
    p = fma(p, r, _C3)
    return fma(p, r, _C2)


@intrinsic
def _times_power_of_two(typing, lanes, powers):
    """lanes * 2^n, n the whole number in the last 9 bits of `powers`; neither side subnormal"""

    def generate(context, builder, signature, arguments):
        bits = ir.VectorType(ir.IntType(32), lanes.width)
        number, powers = (builder.bitcast(argument, bits) for argument in arguments)
        return builder.bitcast(builder.add(number, builder.shl(powers, bits([23] * lanes.width))), arguments[0].type)

    return lanes(lanes, lanes), generate


@intrinsic
def _power_of_two(typing, powers):
    """2^n of the type of `powers`, n the whole number in their last 9 bits; not subnormal"""

    def generate(context, builder, signature, arguments):
        bits = ir.VectorType(ir.IntType(32), powers.width)
        exponents = builder.shl(builder.bitcast(arguments[0], bits), bits([23] * powers.width))
        return builder.bitcast(builder.add(bits([_BITS_OF_ONE] * powers.width), exponents), arguments[0].type)

    return powers(powers), generate
