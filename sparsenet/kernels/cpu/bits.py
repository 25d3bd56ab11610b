"""Bits of 64-bit words within Numba functions: one instruction each."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def ones(typing: Any, word: Any) -> tuple[Any, Any]:
    """The number of bits of an int64 that are set."""
    return types.int64(types.int64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@intrinsic
def lowest(typing: Any, word: Any) -> tuple[Any, Any]:
    """The position of the lowest bit of an int64 that is set; one must be."""
    return types.int64(types.int64), lambda context, builder, signature, arguments: builder.cttz(
        arguments[0], ir.Constant(ir.IntType(1), 1))
