"""Guards that the contracts of several families share; see `Kernel.guard` for when they run."""

from __future__ import annotations

from typing import Any


def guard_capacity(kernel: Any) -> None:
    """Guard the table of a kernel that looks keys up in it: a probe ends at a free slot of a table made by
    `hash_insert`."""

    @kernel.guard("always")
    def is_a_power_of_two(table_keys):
        if not table_keys.size or table_keys.size & (table_keys.size - 1):
            raise ValueError(f"{kernel.name}: table_keys has {table_keys.size} slots, expected a power of two: make "
                             "the table with hash_insert")


def rises(splits: Any, last: int) -> bool:
    """Whether splits rise from 0 to `last`."""
    return len(splits) > 0 and splits[0] == 0 and splits[-1] == last and not (splits[1:] < splits[:-1]).any()


def check_splits(name: str, pairs: Any, pair_splits: Any) -> None:
    """Raise ValueError unless the splits of the kernel of that name cut all pairs into runs."""
    if not rises(pair_splits, len(pairs)):
        raise ValueError(f"{name}: pair_splits is {pair_splits}, expected numbers that rise from 0 to {len(pairs)}, "
                         "the number of pairs")


def check_view(name: str, rulebook: Any, view: str) -> None:
    """Raise ValueError if a view of a rulebook names rows that do not exist, which the kernel of that name would read,
    or write, somewhere else in memory."""
    inputs, outputs, offsets = rulebook.shape
    rows = getattr(rulebook, view)
    if view == "pairs":
        if len(rulebook.pair_splits) != offsets + 1:
            raise ValueError(f"{name}: pair_splits has {len(rulebook.pair_splits)} numbers, expected {offsets + 1}, "
                             "one more than there are offsets")
        check_splits(name, rows, rulebook.pair_splits)
        columns = [(rows[:, 0], 0, inputs, "a row of the {} input sites"),
                   (rows[:, 1], 0, outputs, "a row of the {} output sites")]
    elif view == "neighbours":
        columns = [(rows, -1, inputs, "-1 or a row of the {} input sites")]
    else:
        columns = [(rows, -1, outputs, "-1 or a row of the {} output sites")]
    for column, low, high, words in columns:
        if column.size and not (low <= int(column.min()) and int(column.max()) < high):
            raise ValueError(f"{name}: {view} name rows {int(column.min())} to {int(column.max())}, expected "
                             f"{words.format(high)}")
