"""The hash table from the keys of sites to their rows."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.hash_table.layout import EMPTY, MIX, HashTable, capacity_for
from sparsenet.kernels.table import formula_of


@formula_of("hash_insert")
def hash_insert(keys, check):
    """`table_keys` (T,) int64 and `table_rows` (T,) int32: each key in the first free slot from its home on."""
    table_keys = np.full(capacity_for(len(keys)), EMPTY, np.int64)
    table_rows = np.full(len(table_keys), -1, np.int32)
    for row, key in enumerate(keys.tolist()):
        slot = ((key >> 3) * MIX % 2**64 >> 32 << 3 | key & 7) % len(table_keys)  # home: keeps the three low bits
        while table_keys[slot] not in (EMPTY, key):
            slot = (slot + 1) % len(table_keys)
        if table_keys[slot] == key:
            raise ValueError(f"hash_insert: key {key} of row {row} occurs twice")
        table_keys[slot], table_rows[slot] = key, row
    return HashTable(table_keys, table_rows)


@formula_of("hash_lookup")
def hash_lookup(table_keys, table_rows, queries):
    """(Q,) int32: the row of each key, -1 if it is not in the table."""
    row_of = dict(zip(table_keys.tolist(), table_rows.tolist(), strict=True)) | {EMPTY: -1}
    return np.array([row_of.get(key, -1) for key in queries.tolist()], np.int32)
