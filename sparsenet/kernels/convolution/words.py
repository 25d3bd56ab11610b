"""Operands of the tensor cores, as 32-bit words: launches of words.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import HALF, array_module
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaKernel, CudaSource, Macros, blocks_for

STORED = {"tf32": ("float32",), "fp16": ("float32", "float16"), "bf16": ("float32",)}  # dtypes by their operands


def _macros(precision: str, dtype: str) -> Macros:
    return {"PRECISION": precision.upper(), "SCALAR": SCALARS[dtype]["SCALAR"]}


SOURCE = CudaSource("convolution/words", variants=[_macros(precision, dtype) for precision in STORED
                                                   for dtype in STORED[precision]])


def _kernel(name: str, array: Any, precision: str) -> CudaKernel:
    return SOURCE.kernel(name, **_macros(precision, array.dtype.name))


def row_words(rows: Any, precision: str, rounded: bool = False) -> Any:
    """(N, words) uint32, words a multiple of 8: TF32 and float16 take rows as they are if they fit.

    rounded : whether TF32 must be rounded already, as it is not if rows are taken as they are
    """
    words = _word_count(rows.shape[1], precision)
    fits = rows.shape[1] == words * (1 if precision == "tf32" else 2)  # no zeros at the end
    if fits and by_vectors(rows) and (rows.dtype == HALF or precision == "tf32" and not rounded):
        return rows.view("uint32")
    out = array_module(rows).empty((rows.shape[0], words), "uint32")
    if fits and by_vectors(rows) and rows.dtype != HALF:
        _kernel("pack_pieces", rows, precision)(blocks_for(rows.size // 4), THREADS, rows, rows.size // 4, out)
    else:
        _kernel("pack_rows", rows, precision)(blocks_for(out.size), THREADS, rows, *rows.shape, words, out)
    return out


def weight_words(weights: Any, precision: str) -> Any:
    """(K, C_out, words) uint32."""
    offsets, c_in, c_out = weights.shape
    words = _word_count(c_in, precision)
    out = array_module(weights).empty((offsets, c_out, words), "uint32")
    _kernel("pack_weights", weights, precision)(blocks_for(out.size), THREADS, weights, offsets, c_in, c_out, words,
                                                out)
    return out


def swizzled_weight_words(weights: Any, precision: str, chunks: int, chunk: int, columns: int) -> Any:
    """(K, chunks, columns, chunk) uint32, in the order in which wgmma reads them; columns is C_out or more."""
    offsets, c_in, c_out = weights.shape
    out = array_module(weights).empty((offsets, chunks, columns, chunk), "uint32")
    _kernel("pack_weights_swizzled", weights, precision)(blocks_for(out.size), THREADS, weights, offsets, c_in, c_out,
                                                         chunks, columns, out)
    return out


def _word_count(channels: int, precision: str) -> int:
    return -(-channels // (8 if precision == "tf32" else 16)) * 8


def by_vectors(*arrays: Any) -> bool:
    """Whether all their rows begin at multiples of 16 bytes."""
    return all(array.shape[-1] * array.itemsize % 16 == 0 and _address(array) % 16 == 0 for array in arrays)


def _address(array: Any) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
