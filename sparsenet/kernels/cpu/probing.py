"""Probing of the hash table of site keys within compiled functions; its layout is drawn in hash_table/cpu.py."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.lanes import prefetch
from sparsenet.kernels.cpu.numba_cache import compiled

_MIX = np.uint64(0x9E3779B97F4A7C15)  # as in hash_table/layout.py


@compiled(inline="always")
def home_of(key, mask):
    """The first slot of a key; mask : uint64, the number of slots less one."""
    run = np.uint64(key) >> np.uint64(3)
    mixed = (run * _MIX) >> np.uint64(32)
    return np.int64(((mixed << np.uint64(3)) | (np.uint64(key) & np.uint64(7))) & mask)


@compiled(inline="always")
def prefetch_slot(table_keys, table_rows, slot):
    """Start loading a slot into the cache."""
    prefetch(table_keys, slot, 1)
    prefetch(table_rows, slot, 1)


@compiled(inline="always")
def row_from(table_keys, table_rows, key, slot):
    """The row of a key, -1 if it is not in the table; slot : its first."""
    while table_keys[slot] != key and table_keys[slot] != -1:
        slot = (slot + 1) & (table_keys.size - 1)
    return table_rows[slot] if table_keys[slot] == key else -1
