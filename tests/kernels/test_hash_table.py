"""The hash table on every backend: its capacity, its probes, what it refuses."""

import numpy as np
import pytest

from sparsenet.kernels.fetch import fetches
from sparsenet.kernels.hash_table import layout as hash_layout
from sparsenet.kernels.hash_table.layout import EMPTY, HashTable, capacity_for, probe_lengths


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 1000])
def test_capacity_is_a_power_of_two_at_load_at_most_one_half(count):
    capacity = capacity_for(count)
    assert capacity & (capacity - 1) == 0
    assert capacity >= max(8, 2 * count)


def test_dense_block_of_cells_has_short_probes(launch):
    keys = np.arange(20_000, dtype=np.int64)
    table_keys, _ = launch("hash_insert", keys, True)
    lengths = probe_lengths(table_keys)
    assert lengths.size == keys.size and lengths.min() == 1
    assert lengths.mean() < 16


def test_probe_lengths_count_the_slots_on_the_way(launch):
    table_keys, table_rows = launch("hash_insert", np.array([0, 8, 16, 3], np.int64), True)
    assert (table_keys != EMPTY).sum() == 4
    assert probe_lengths(table_keys).min() >= 1
    found = launch("hash_lookup", table_keys, table_rows, np.array([3, 16, 8, 0, 1], np.int64))
    assert found.tolist() == [3, 2, 1, 0, -1]


def test_duplicates_and_negative_keys_raise(launch):
    with pytest.raises(ValueError, match="key 7 of row 2 occurs twice"):
        launch("hash_insert", np.array([7, 1, 7], np.int64), True)
    with pytest.raises(ValueError, match="must not be negative"):
        launch("hash_insert", np.array([-7], np.int64), True)


def test_no_queries_and_an_empty_table(launch):
    table = launch("hash_insert", np.empty(0, np.int64), True)
    assert launch("hash_lookup", *table, np.empty(0, np.int64)).shape == (0,)
    assert launch("hash_lookup", *table, np.array([0, 5], np.int64)).tolist() == [-1, -1]


@pytest.mark.parametrize("backend", ["cuda"], indirect=True)  # a CPU need not wait: it raises at once
def test_the_check_may_wait(launch):
    """A table that is not checked at once reports the fault later, and waits for the device at most once."""
    before = fetches()
    good, twice, negative = (launch("hash_insert", np.array(keys, np.int64), False)
                             for keys in ([3, 1], [5, 7, 5, 7], [1, -2]))
    assert fetches() == before
    for _ in range(2):
        good.check()
    assert fetches() == before + 1 and good.unchecked.size == 0
    with pytest.raises(ValueError, match="key 5 of row 2 occurs twice"):
        twice.check()
    with pytest.raises(ValueError, match="must not be negative"):
        negative.check(negative.unchecked.tolist())


def test_two_threads_may_check_a_table_at_once(monkeypatch):
    """The second finds it done while it waits for the device."""
    keys, problems = np.array([3, 5]), np.zeros(1, np.int64)
    table = HashTable(keys, np.array([0, 1], np.int32), keys, problems)
    plain, entered = hash_layout.fetch, []

    def fetch(*numbers):
        if not entered:
            entered.append(True)
            table.check()  # as another thread would
        return plain(*numbers)

    monkeypatch.setattr(hash_layout, "fetch", fetch)
    table.check()
    assert entered and table.unchecked.size == 0
    bad = HashTable(keys, np.array([0, 1], np.int32), np.array([3, 3]), np.ones(1, np.int64))
    with pytest.raises(ValueError, match="key 3 of row 1 occurs twice"):
        bad.check()
