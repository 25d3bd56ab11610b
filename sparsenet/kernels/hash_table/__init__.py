"""The hash table from the keys of sites to their rows.

    layout.py      the arrays, on any backend
    cpu.py         fills and reads it; the layout is drawn there
    cuda.py        on a GPU, through hash_table.cu
"""

from sparsenet.kernels.hash_table.layout import EMPTY, MIX, HashTable, capacity_for, probe_lengths

__all__ = ["EMPTY", "MIX", "HashTable", "capacity_for", "probe_lengths"]
