"""Hash table from site keys to rows: open addressing with linear probing.

    slot      0     1     2     3            capacity - 1
    keys   | -1  | 817 | -1  | 42  | ... |   int64, -1 where empty
    rows   | -1  |  5  | -1  |  0  | ... |   int32

The capacity is a power of two and at least twice the number of keys.  A key's home slot mixes
`key >> 3` and keeps the three low bits, so that the eight cells of a run along the last axis
share one cache line.  Keys are inserted in row order by one thread: the layout of the table is
the same every time.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.table import Array, declare
from sparsenet.kernels.threads import run_blocks

EMPTY = -1
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_BLOCK = 16384

INSERT = declare("hash_insert", keys=Array("int64", "N"))
LOOKUP = declare(
    "hash_lookup",
    table_keys=Array("int64", "T"),
    table_rows=Array("int32", "T"),
    queries=Array("int64", "Q"),
)


def capacity_for(count: int) -> int:
    """Slots for `count` keys: a power of two, load at most one half, at least 8."""
    return max(8, 1 << (2 * count - 1).bit_length()) if count else 8


@numba.njit(nogil=True, cache=True, inline="always")
def _home(key, mask):
    run = np.uint64(key) >> np.uint64(3)
    mixed = (run * _MIX) >> np.uint64(32)
    return np.int64(((mixed << np.uint64(3)) | (np.uint64(key) & np.uint64(7))) & mask)


@numba.njit(nogil=True, cache=True)
def _insert(keys, table_keys, table_rows):
    mask = np.uint64(table_keys.size - 1)
    for row in range(keys.size):
        slot = _home(keys[row], mask)
        while table_keys[slot] != EMPTY:
            if table_keys[slot] == keys[row]:
                return row
            slot = (slot + 1) & np.int64(mask)
        table_keys[slot] = keys[row]
        table_rows[slot] = row
    return -1


@numba.njit(nogil=True, cache=True)
def _lookup(table_keys, table_rows, queries, rows, start, stop):
    mask = np.uint64(table_keys.size - 1)
    for i in range(start, stop):
        rows[i] = -1
        if queries[i] < 0:
            continue
        slot = _home(queries[i], mask)
        while table_keys[slot] != EMPTY:
            if table_keys[slot] == queries[i]:
                rows[i] = table_rows[slot]
                break
            slot = (slot + 1) & np.int64(mask)


@INSERT.implementation("cpu")
def _insert_cpu(keys):
    """(table_keys, table_rows) of the distinct, non-negative keys; row i holds key i.

    Raises
    ------
    ValueError : a key is negative or occurs twice.
    """
    if keys.size and keys.min() < 0:
        raise ValueError("hash_insert: keys must not be negative")
    table_keys = np.full(capacity_for(keys.size), EMPTY, np.int64)
    table_rows = np.full(table_keys.size, -1, np.int32)
    duplicate = _insert(keys, table_keys, table_rows)
    if duplicate >= 0:
        raise ValueError(f"hash_insert: key {keys[duplicate]} of row {duplicate} occurs twice")
    return table_keys, table_rows


@LOOKUP.implementation("cpu")
def _lookup_cpu(table_keys, table_rows, queries):
    """(Q,) int32: the row of each queried key, -1 where it is absent (or negative)."""
    rows = np.empty(queries.size, np.int32)

    def block(index: int) -> None:
        start = index * _BLOCK
        _lookup(table_keys, table_rows, queries, rows, start, min(start + _BLOCK, queries.size))

    run_blocks(block, -(-queries.size // _BLOCK))
    return rows


def probe_lengths(table_keys: np.ndarray) -> np.ndarray:
    """(N,) int64: slots looked at to find each key, in slot order (1 = found at home)."""
    slots = np.flatnonzero(table_keys != EMPTY)
    mask = np.uint64(table_keys.size - 1)
    keys = table_keys[slots].astype(np.uint64)
    mixed = ((keys >> np.uint64(3)) * _MIX) >> np.uint64(32)
    home = ((mixed << np.uint64(3)) | (keys & np.uint64(7))) & mask
    return ((slots - home.astype(np.int64)) & (table_keys.size - 1)) + 1
