"""The hash table on any backend: capacity, home slots, the arrays and their check.

The layout is drawn in cpu.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.kernels.fetch import fetch

EMPTY = -1
MIX = 0x9E3779B97F4A7C15  # 2^64 / golden ratio


class HashTable(tuple):
    """Unpacks to `table_keys, table_rows`, the arrays drawn in cpu.py."""

    def __new__(cls, table_keys: Any, table_rows: Any, keys: Any = None, problems: Any = None) -> HashTable:
        table = super().__new__(cls, (table_keys, table_rows))
        table._keys, table._problems = keys, problems
        return table

    @property
    def unchecked(self) -> Any:
        """(1,) int64 on the device: the number of keys that found no slot; (0,) once it is known to be 0."""
        problems = self._problems  # another thread may be done with it in between
        return self[0][:0] if problems is None else problems

    def check(self, problems: list[int] | None = None) -> None:
        """Raise ValueError if a key was negative or came twice.

        problems : the numbers in `unchecked`, if they have been fetched already; if not, this waits for the device,
            once in the life of a table.
        """
        keys, pending = self._keys, self._problems  # another thread may be done with them in between
        if keys is None or pending is None:
            return
        if any(fetch(pending) if problems is None else problems):
            raise_for(keys if isinstance(keys, np.ndarray) else keys.get())
        self._keys = self._problems = None


def capacity_for(count: int) -> int:
    """Slots for `count` keys: a power of two, load at most one half, and 8 or more."""
    return max(8, 1 << (2 * count - 1).bit_length()) if count else 8


def raise_for(keys: np.ndarray) -> None:
    if keys.min() < 0:
        raise ValueError("hash_insert: keys must not be negative")
    again = np.setdiff1d(np.arange(keys.size), np.unique(keys, return_index=True)[1])
    if again.size:
        raise ValueError(f"hash_insert: key {keys[again[0]]} of row {again[0]} occurs twice")
    raise RuntimeError(f"hash_insert: {keys.size} distinct keys overflow a table of {capacity_for(keys.size)} slots")


def probe_lengths(table_keys: np.ndarray) -> np.ndarray:
    """(N,) int64: slots looked at to find each key, in slot order (1 = found at home)."""
    slots = np.flatnonzero(table_keys != EMPTY)
    mask = np.uint64(table_keys.size - 1)
    keys = table_keys[slots].astype(np.uint64)
    mixed = ((keys >> np.uint64(3)) * np.uint64(MIX)) >> np.uint64(32)
    home = ((mixed << np.uint64(3)) | (keys & np.uint64(7))) & mask
    return ((slots - home.astype(np.int64)) & (table_keys.size - 1)) + 1
