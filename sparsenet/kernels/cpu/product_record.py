"""A record of the matrix products that compiled code makes, for profiles (see `blas.multiply`).

While it is open, kernels are given another loop in place of NumPy's: one that reads the clock, calls NumPy's,
reads the clock again and writes a line.  Each thread has lines of its own, found by the thread's number.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, types
from numba.extending import intrinsic

from sparsenet.kernels.cpu import blas

_THREADS = 64  # slots of lines; a thread takes the first free one from a place that its number gives
_LINES = 1 << 17  # of a slot
_WIDTH = 5  # m, k, n, whether the left factor is transposed, nanoseconds
_kept: list[Any] = []  # loops for good: a kernel of another thread may be at one when its record ends


@dataclass(frozen=True)
class Product:
    """One product (m, k) x (k, n); `transposed`: of a left factor that lies in memory as (k, m)."""

    m: int
    k: int
    n: int
    transposed: bool
    seconds: float


@contextmanager
def recorded_products() -> Iterator[list[Product]]:
    """Within it, what compiled code multiplies is recorded; the list is filled at the end.

    Raises
    ------
    RuntimeError : no POSIX clock and threads on this system; more products than there are lines for.
    """
    if not hasattr(time, "CLOCK_MONOTONIC"):
        raise RuntimeError("recorded_products: this system has no POSIX clock: profile on Linux or macOS")
    library = ctypes.CDLL(None)
    lines = np.zeros((_THREADS, _LINES, _WIDTH), np.int64)
    counts = np.zeros((_THREADS, 8), np.int64)  # a cache line each: lines, thread
    loops = {char: _recording_loop(library, blas.product_loop(np.dtype(char)), np.dtype(char).itemsize, lines, counts)
             for char in "fd"}
    products: list[Product] = []
    _kept.append((loops, lines, counts))
    plain, blas.product_loop = blas.product_loop, lambda dtype: loops[np.dtype(dtype).char].address
    try:
        yield products
    finally:
        blas.product_loop = plain
    if (counts[:, 0] > _LINES).any() or (counts[:, 1] != 0).all():
        raise RuntimeError(f"recorded_products: more than {_LINES} products of a thread, or {_THREADS} threads and "
                           "more: record less at a time")
    for slot, used in enumerate(counts[:, 0]):
        products += [Product(m, k, n, bool(transposed), 1e-9 * spent)
                     for m, k, n, transposed, spent in lines[slot, :used].tolist()]


@intrinsic
def _pointer(typing: Any, address: Any) -> tuple[Any, Any]:
    kind = types.CPointer(types.int64)
    return kind(types.int64), lambda context, builder, signature, arguments: builder.inttoptr(
        arguments[0], context.get_value_type(kind))


@intrinsic
def _claim(typing: Any, address: Any, number: Any) -> tuple[Any, Any]:
    """What stands at the address, where `number` is put if it was 0; one step for all threads."""

    def build(context: Any, builder: Any, signature: Any, arguments: tuple) -> Any:
        word = ir.IntType(64)
        place = builder.inttoptr(arguments[0], word.as_pointer())
        return builder.extract_value(builder.cmpxchg(place, word(0), arguments[1], "seq_cst", "seq_cst"), 0)

    return types.int64(types.int64, types.int64), build


@intrinsic
def _call(typing: Any, loop: Any, addresses: Any, sizes: Any, strides: Any) -> tuple[Any, Any]:
    """The loop of a ufunc, as `blas.multiply` calls it."""
    def build(context: Any, builder: Any, signature: Any, arguments: tuple) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word.as_pointer()] * 3 + [word])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [*arguments[1:], word(0)])
        return context.get_dummy_value()

    table = types.CPointer(types.int64)
    return types.void(types.int64, table, table, table), build


def _recording_loop(library: Any, loop: int, itemsize: int, lines: np.ndarray, counts: np.ndarray) -> Any:
    """A function of the same calling convention, compiled for this record."""
    clock, thread = library.clock_gettime, library.pthread_self
    clock.argtypes, clock.restype = [ctypes.c_int64, ctypes.c_int64], ctypes.c_int
    thread.argtypes, thread.restype = [], ctypes.c_int64
    lines_at, counts_at, monotonic = lines.ctypes.data, counts.ctypes.data, int(time.CLOCK_MONOTONIC)
    slots, room, width, gap = _THREADS, _LINES, _WIDTH, counts.shape[1]
    table = types.CPointer(types.int64)
    times = np.zeros((_THREADS, 8), np.int64)
    times_at = times.ctypes.data

    def record(addresses, sizes, strides, data):
        number = thread()
        slot, tried = (number >> 12) % slots, 0
        while tried < slots:
            owner = _claim(counts_at + slot * gap * 8 + 8, number)
            if owner == 0 or owner == number:
                break
            slot, tried = (slot + 1) % slots, tried + 1
        clock(monotonic, times_at + slot * 64)
        _call(loop, addresses, sizes, strides)
        clock(monotonic, times_at + slot * 64 + 16)
        stamps = carray(_pointer(times_at), (slots, 8))
        used = carray(_pointer(counts_at), (slots, gap))
        index = used[slot, 0]
        used[slot, 0] = index + 1
        if index < room:
            line = carray(_pointer(lines_at), (slots, room, width))[slot, index]
            size, stride = carray(sizes, 4), carray(strides, 9)
            line[0], line[1], line[2] = size[1], size[2], size[3]
            line[3] = stride[3] == itemsize and stride[4] != itemsize
            line[4] = (stamps[slot, 2] - stamps[slot, 0]) * 1000000000 + stamps[slot, 3] - stamps[slot, 1]

    compiled = cfunc(types.void(table, table, table, types.int64), nopython=True)(record)
    compiled.keep = times  # lives as long as the loop
    return compiled
