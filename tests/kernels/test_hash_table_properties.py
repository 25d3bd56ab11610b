"""The hash table against a Python dictionary, for arbitrary keys, on every backend."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

keys_strategy = st.lists(st.one_of(st.integers(0, 200), st.integers(0, 2**62)), unique=True, max_size=200)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=keys_strategy, extra=st.lists(st.integers(-5, 220)))
def test_lookup_equals_a_dictionary(launch, keys, extra):
    table = launch("hash_insert", np.array(keys, np.int64), True)
    queries = keys + extra
    expected = {key: row for row, key in enumerate(keys)}
    rows = launch("hash_lookup", *table, np.array(queries, np.int64))
    assert rows.tolist() == [expected.get(query, -1) for query in queries]
