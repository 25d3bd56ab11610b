"""All lanes as one number: their sum, their maximum, their truth values as bits."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sparsenet.kernels.cpu.lanes import larger

_INT = ir.IntType(32)


def _of_all(emit: Callable) -> Callable:
    """All lanes, floats, to one number: of 16, lanes 0-7 with 8-15, then 0-3 with 4-7, ...; width a power of two"""

    @intrinsic
    def operation(typing, lanes):
        def generate(context, builder, signature, arguments):
            (joined,), half = arguments, lanes.width // 2
            while half:
                low, high = (builder.shuffle_vector(joined, joined, ir.VectorType(_INT, half)(
                    list(range(start, start + half)))) for start in (0, half))
                joined, half = emit(builder, low, high), half // 2
            return builder.extract_element(joined, _INT(0))

        return lanes.element(lanes), generate

    return operation


total_of = _of_all(ir.IRBuilder.fadd)
maximum_of = _of_all(larger)


@intrinsic
def bits_of(typing, truths):
    """int64 with a bit for each of at most 64 truth values: lane i's is bit i (processors are little-endian)"""

    def generate(context, builder, signature, arguments):
        return builder.zext(builder.bitcast(arguments[0], ir.IntType(truths.width)), ir.IntType(64))

    return types.int64(truths), generate
