"""NumPy's matrix product, called from compiled code.

A block of a convolution is a few hundred small products, with rows gathered before and summed after
each.  Called one by one from Python they would hold the interpreter's lock for much of their time, and
threads would wait for one another.  So the compiled code of a block calls the inner loop of
`numpy.matmul` directly: a C function whose address is in the ufunc object, at an offset that is part of
NumPy's public interface (PyUFuncObject, numpy/ufuncobject.h), with the calling convention of every ufunc:

    loop(char *addresses[3], intp sizes[4] = {1, m, k, n}, intp strides[9], void *data)

The strides are those of the outer loop (unused here) and of rows and columns of both factors and the
product, in bytes.  It needs no lock, and calls the BLAS that this NumPy was built with.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparsenet.kernels.cpu.numba_cache import compiled


class Matrix(NamedTuple):
    """A matrix for `multiply`: its address, and the strides of its rows and columns in bytes; integers of 64 bits."""

    address: int
    row: int
    column: int


class _UFunc(ctypes.Structure):
    """The beginning of a PyUFuncObject."""

    _fields_ = [
        ("head", ctypes.c_char * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
    ]


@cache
def product_loop(dtype: np.dtype) -> int:
    """Address of the loop for matrices of `dtype` (float32 or float64), for `multiply`.

    Raises RuntimeError if this NumPy keeps it elsewhere.
    """
    char = np.dtype(dtype).char
    ufunc = _UFunc.from_address(id(np.matmul))
    loops = np.matmul.types
    found = (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes) == (2, 1, 3, len(loops))
    address = ufunc.functions[loops.index(f"{char * 2}->{char}")] if found else None
    if not address:
        raise RuntimeError(f"product_loop: the loop of numpy.matmul is not where NumPy's interface puts it, in NumPy "
                           f"{np.__version__}: install a NumPy that this package names in its requirements")
    a, b = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(12, dtype=dtype).reshape(4, 3)
    out = np.zeros((2, 4), dtype)
    size = out.itemsize
    _multiply_once(address, Matrix(a.ctypes.data, 3 * size, size), Matrix(b.ctypes.data, size, 3 * size),
                   Matrix(out.ctypes.data, 4 * size, size), (2, 3, 4))
    if not np.array_equal(out, a @ b.T):
        raise RuntimeError(f"product_loop: the loop of numpy.matmul gives {out.tolist()} for {(a @ b.T).tolist()}, in "
                           f"NumPy {np.__version__}: install a NumPy that this package names in its requirements")
    return address


@intrinsic
def multiply(typing: Any, loop: Any, a: Any, b: Any, out: Any, sizes: Any) -> tuple[Any, Any]:
    """out (m, n) = a (m, k) x b (k, n), within compiled code.

    loop : from `product_loop`;  a, b, out : of class Matrix;  sizes : (m, k, n).  Nothing is checked.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: tuple) -> Any:
        word = ir.IntType(64)
        loop, *groups = (unpacked(context, builder, kind, value)
                         for kind, value in zip(signature.args, arguments, strict=True))

        def table(values: list) -> Any:
            place = cgutils.alloca_once(builder, ir.ArrayType(word, len(values)))
            for i, value in enumerate(values):
                builder.store(value, cgutils.gep_inbounds(builder, place, 0, i))
            return builder.bitcast(place, word.as_pointer())

        (a, *a_strides), (b, *b_strides), (out, *out_strides), sizes = groups
        addresses, sizes = table([a, b, out]), table([word(1), *sizes])
        strides = table([word(0)] * 3 + a_strides + b_strides + out_strides)
        kind = ir.FunctionType(ir.VoidType(), [word.as_pointer()] * 3 + [word])
        builder.call(builder.inttoptr(loop[0], kind.as_pointer()), [addresses, sizes, strides, word(0)])
        return context.get_dummy_value()

    def unpacked(context: Any, builder: Any, kind: Any, value: Any) -> list:
        """The numbers of a tuple, or a single one, as words."""
        kinds = getattr(kind, "types", None)  # of a tuple
        values = [value] if kinds is None else cgutils.unpack_tuple(builder, value)
        return [context.cast(builder, one, own, types.int64) for one, own in zip(values, kinds or [kind], strict=True)]

    return types.void(loop, a, b, out, sizes), build


@compiled
def _multiply_once(loop, a, b, out, sizes):
    multiply(loop, a, b, out, sizes)
