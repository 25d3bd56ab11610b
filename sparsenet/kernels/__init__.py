"""Kernels, found by name through `launch` (see `table`): `contracts.py` says what each computes, `reference.py` is its
formula, the other modules are how it is fast."""

from sparsenet.kernels import contracts  # noqa: F401  (declares them)
from sparsenet.kernels.counting import counting
from sparsenet.kernels.cpu.threads import get_num_threads, set_num_threads
from sparsenet.kernels.cuda.tiles import set_tile_table
from sparsenet.kernels.precision import get_float32_matmul_precision, set_float32_matmul_precision
from sparsenet.kernels.table import find, launch, views_read

__all__ = [
    "counting",
    "find",
    "get_float32_matmul_precision",
    "get_num_threads",
    "launch",
    "set_float32_matmul_precision",
    "set_num_threads",
    "set_tile_table",
    "views_read",
]
