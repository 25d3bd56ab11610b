"""The hash table on a GPU, through hash_table.cu: a thread for each key."""

from __future__ import annotations

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import THREADS, CudaSource, blocks_for
from sparsenet.kernels.hash_table.contract import HASH_INSERT as INSERT
from sparsenet.kernels.hash_table.contract import HASH_LOOKUP as LOOKUP
from sparsenet.kernels.hash_table.layout import EMPTY, HashTable, capacity_for

SOURCE = CudaSource("hash_table/hash_table", variants=[{}])


@INSERT.implementation("cuda")
def _insert_cuda(keys, check):
    xp = array_module(keys)
    table_keys = xp.full(capacity_for(keys.size), EMPTY, np.int64)
    table_rows = xp.empty(table_keys.size, np.int32)  # read only beside a key
    problems = xp.zeros(1, np.int64)
    kernel = SOURCE.kernel("hash_insert")
    kernel(blocks_for(keys.size), THREADS, keys, keys.size, table_keys.size - 1, table_keys, table_rows, problems)
    table = HashTable(table_keys, table_rows, keys, problems)
    if check:
        table.check()
    return table


@LOOKUP.implementation("cuda")
def _lookup_cuda(table_keys, table_rows, queries):
    rows = array_module(queries).empty(queries.size, np.int32)
    kernel = SOURCE.kernel("hash_lookup")
    kernel(blocks_for(queries.size), THREADS, table_keys, table_rows, table_keys.size - 1, queries, queries.size, rows)
    return rows
