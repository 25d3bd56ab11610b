"""The kernel offsets of a filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from sparsenet.sparse import Geometry
from sparsenet.teach.numpy_puzzle import Case, NumpyPuzzle


def cases() -> Iterator[Case]:
    for size in ((3,), (2, 3), (3, 2), (2, 3, 4), (1, 1)):
        expected = Geometry.make(len(size), size).kernel_offsets
        yield Case(f"kernel size {size}", {"kernel_size": size}, (expected,))


def _offsets(kernel_size: tuple[int, ...], order: Literal["C", "F"] = "C") -> np.ndarray:
    """(D, K)"""
    return np.stack(np.unravel_index(np.arange(np.prod(kernel_size)), kernel_size, order=order))


PUZZLE = NumpyPuzzle(
    __name__, "The kernel offsets of a filter", """
    A filter of kernel_size (2, 3) has K = 2 * 3 = 6 cells.  Their places in the filter, counted from its first
    corner, are the kernel offsets, an array (K, D), row-major: the last axis runs fastest.

        k = 0  1  2        (0, 0) (0, 1) (0, 2)
            3  4  5        (1, 0) (1, 1) (1, 2)

    Offset k is the place of the weight W[k].  Return the offsets of any kernel_size, a tuple of D whole numbers.
    """, (
        "Row-major numbering is NumPy's own: np.unravel_index turns a number into a place.",
        "np.unravel_index(np.arange(K), kernel_size) gives one array (K,) for each axis.",
        "Stack these arrays as columns: np.stack(..., axis=1).  K is np.prod(kernel_size)."),
    results=("offsets",), cases=cases, mistakes=(
        ("The first axis runs fastest here; the last one has to.",
         lambda kernel_size: _offsets(kernel_size, "F").T),
        ("These offsets are counted from the centre of the filter; count them from its first corner, from 0.",
         lambda kernel_size: _offsets(kernel_size).T - np.array(kernel_size) // 2),
        ("These are the offsets transposed, (D, K): a row has to be an offset.",
         _offsets)))
