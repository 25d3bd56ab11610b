"""The contracts of the hash table from the keys of sites to their rows."""

from __future__ import annotations

from sparsenet.kernels.guards import guard_capacity
from sparsenet.kernels.table import Array, Scalar, declare

HASH_INSERT = declare(
    "hash_insert", "hash_table",
    "table_rows[slot] = n where table_keys[slot] = keys[n]",
    keys=Array("int64", "N"),
    check=Scalar(bool),  # raise here for a bad key, which waits for a GPU; if not, `HashTable.check` does it later
)
HASH_LOOKUP = declare(
    "hash_lookup", "hash_table",
    "out[q] = table_rows[slot] where table_keys[slot] = queries[q], or -1",
    table_keys=Array("int64", "T"),
    table_rows=Array("int32", "T"),
    queries=Array("int64", "Q"),
)


@HASH_INSERT.guard("host")
def _keys_are_not_negative(keys):
    if keys.size and keys.min() < 0:
        raise ValueError("hash_insert: keys must not be negative")


guard_capacity(HASH_LOOKUP)
