"""A hash table that many threads fill."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, on_blocks

EMPTY = -1


def launches() -> Iterator[Launch]:
    for count, slots, blocks in ((8, 32, 1), (24, 32, 2), (32, 32, 1)):
        keys = np.random.default_rng(count).choice(1000, count, replace=False).astype(np.int32)
        table_keys, table_rows = np.full(slots, EMPTY, np.int32), np.full(slots, -1, np.int32)

        def verify(arrays: dict[str, np.ndarray], keys=keys) -> str:
            return _verify(keys, arrays["table_keys"], arrays["table_rows"])

        yield Launch(f"{count} keys into {slots} slots {on_blocks(blocks, 32)}", blocks, 32,
                     {"keys": keys, "size": count, "slots": slots, "table_keys": table_keys, "table_rows": table_rows},
                     verify=verify)


def _verify(keys: np.ndarray, table_keys: np.ndarray, table_rows: np.ndarray) -> str:
    """The faults of a table, in words."""
    slots, table = len(table_keys), f"The table's keys are {table_keys.tolist()}."
    for row, key in enumerate(keys.tolist()):
        home = key % slots
        places = np.flatnonzero(table_keys == key).tolist()
        if len(places) != 1:
            return f"key {key} of row {row} stands in {len(places)} slots, expected one\n{table}"
        for step in range(slots):
            slot = (home + step) % slots
            if table_keys[slot] == key:
                if table_rows[slot] != row:
                    return f"table_rows[{slot}] is {table_rows[slot]}, expected {row}, the row of key {key}\n{table}"
                break
            if table_keys[slot] == EMPTY:
                return (f"key {key} of row {row} is not found: its home is slot {home}, and slot {slot} is empty, but "
                        f"the key stands in slot {places[0]}\n{table}")
    if np.count_nonzero(table_keys != EMPTY) != len(keys):
        return f"the table holds {np.count_nonzero(table_keys != EMPTY)} keys, expected {len(keys)}\n{table}"
    return ""


PUZZLE = CudaPuzzle(
    __name__, "A hash table that many threads fill", """
    Put each of the keys (size,), none of which occurs twice, into a table of `slots` slots, all of them empty (-1) at
    first, and its row i beside it: table_keys[slot] = keys[i], table_rows[slot] = i.  The key's home is the slot key %
    slots; if that is taken, the next one, and so on; after the last slot comes slot 0.

    Two threads may want the same slot at once.  atomicCAS (compare and swap) settles it in one step:

        atomicCAS(&place, expected, value)     if place == expected, write value there; returns what place was before

    Whichever thread comes first has the slot, so the table may differ from run to run (UNORDERED says so to the
    host's checks); what a look-up finds in it does not.
    """, (
        "You have the slot if atomicCAS(&table_keys[slot], -1, key) returns -1.",
        "while (atomicCAS(&table_keys[slot], -1, key) != -1) slot = (slot + 1) % slots;",
        "After that loop the slot is yours alone: table_rows[slot] = i;"),
    launches=launches, advice={
        "race": "To look whether a slot is empty and to take it must be one step: atomicCAS.",
        "out of bounds": "After the last slot comes slot 0: (slot + 1) % slots.",
        "endless loop": "Does the loop go on to the next slot, and end once the key has one?"})
