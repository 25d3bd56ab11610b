"""Stable sort of keys that carry their places: a radix sort, from the lowest digit to the highest.

    keys       | block 0 | block 1 | ...            cut by size alone; one thread takes a block
    counts     (blocks, 2^width)                    of each digit in each block
    places     by digit, then by block: where the first key of that digit and block goes

In each pass a block writes its keys, in their order, to places that no other block writes to.  A digit has at most 11
bits, so that the lines being written fit the second cache; keys of 24 bits take three passes of 8.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.points.contract import SORT_KEYS as SORT

_DIGIT = 11  # bits
_BLOCK = 1 << 16  # keys


@SORT.implementation("cpu")
def _sort_cpu(keys, limit):
    """((M,) int64, (M,) int64)"""
    bits = (limit + 1).bit_length()  # of keys + 1
    passes = max(1, -(-bits // _DIGIT))
    width = -(-bits // passes)
    count, members = len(keys), np.zeros(0, np.int64)
    for shift in range(0, max(bits, 1), width):
        counts = np.zeros((-(-count // _BLOCK), 1 << width), np.int64)
        run_rows(lambda start, stop: _count(keys[start:stop], shift, counts[start // _BLOCK]),  # noqa: B023
                 count, _BLOCK)
        by_digit = counts.T.reshape(-1)
        places = (np.cumsum(by_digit) - by_digit).reshape(1 << width, -1).T.copy()
        moved, moved_members = np.empty(count, np.int64), np.empty(count, np.int64)
        run_rows(lambda start, stop: _scatter(keys, members, shift, start, stop, places[start // _BLOCK],  # noqa: B023
                                              moved, moved_members), count, _BLOCK)  # noqa: B023
        keys, members = moved, moved_members
    return keys, members


@compiled
def _count(keys, shift, counts):
    mask = counts.size - 1
    for key in keys:
        counts[((key + 1) >> shift) & mask] += 1


@compiled
def _scatter(keys, members, shift, start, stop, places, moved, moved_members):
    """No `members`: they are 0, 1, 2 ..."""
    mask = places.size - 1
    for i in range(start, stop):
        digit = ((keys[i] + 1) >> shift) & mask
        place = places[digit]
        places[digit] = place + 1
        moved[place] = keys[i]
        moved_members[place] = members[i] if members.size else i
