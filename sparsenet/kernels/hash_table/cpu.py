"""Hash table from site keys to rows: open addressing with linear probing.

    slot      0     1     2     3            capacity - 1
    keys   | -1  | 817 | -1  | 42  | ... |   int64, -1 where empty
    rows   |     |  5  |     |  0  | ... |   int32, meaningless beside an empty key

The capacity is a power of two and at least twice the number of keys.  A key's home slot mixes
`key >> 3` and keeps the three low bits, so that the eight cells of a run along the last axis
share one cache line.  On a CPU keys are inserted in row order by one thread: the layout of the table is the
same every time.  On a GPU every key has a thread, and the layout depends on which comes first; the rows that
are found do not.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.probing import home_of, prefetch_slot, row_from
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.hash_table.contract import HASH_INSERT as INSERT
from sparsenet.kernels.hash_table.contract import HASH_LOOKUP as LOOKUP
from sparsenet.kernels.hash_table.layout import EMPTY, HashTable, capacity_for, raise_for

_BLOCK = 16384
_AHEAD = 16  # queries: how early their home slots are prefetched


@compiled
def _insert(keys, table_keys, table_rows):
    mask = np.uint64(table_keys.size - 1)
    for row in range(keys.size):
        slot = home_of(keys[row], mask)
        while table_keys[slot] != EMPTY:
            if table_keys[slot] == keys[row]:
                return row
            slot = (slot + 1) & np.int64(mask)
        table_keys[slot] = keys[row]
        table_rows[slot] = row
    return -1


@compiled
def _lookup(table_keys, table_rows, queries, rows, start, stop):
    mask = np.uint64(table_keys.size - 1)
    for i in range(start, stop):
        prefetch_slot(table_keys, table_rows, home_of(queries[min(i + _AHEAD, stop - 1)], mask))
        key = queries[i]
        rows[i] = -1 if key < 0 else row_from(table_keys, table_rows, key, home_of(key, mask))


@INSERT.implementation("cpu")
def _insert_cpu(keys, check):
    """HashTable of the distinct, non-negative keys; key i leads to row i.

    check : raise for a bad key here, which waits for the GPU if there is one; if not, `HashTable.check` does later.

    Raises
    ------
    ValueError : a key is negative or occurs twice.
    """
    table_keys = np.full(capacity_for(keys.size), EMPTY, np.int64)
    table_rows = np.full(table_keys.size, -1, np.int32)
    if _insert(keys, table_keys, table_rows) >= 0:
        raise_for(keys)
    return HashTable(table_keys, table_rows)


@LOOKUP.implementation("cpu")
def _lookup_cpu(table_keys, table_rows, queries):
    """(Q,) int32: the row of each queried key, -1 if it is absent (or negative)."""
    rows = np.empty(queries.size, np.int32)
    run_rows(lambda start, stop: _lookup(table_keys, table_rows, queries, rows, start, stop), queries.size, _BLOCK)
    return rows
