"""Kernels, found by name through `launch` (see table.py).

contracts.py declares each kernel, reference.py is its formula.  The fast implementations are in a folder for each
family, with cpu.py, cuda.py and the CUDA sources; cpu/ and cuda/ are the machinery of the two backends.
"""

import sys
from pathlib import Path

from sparsenet.kernels import contracts  # noqa: F401  (declares them)
from sparsenet.kernels.counting import counting
from sparsenet.kernels.cpu.threads import get_num_threads, set_num_threads
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


def set_tile_table(path: str | Path | None) -> None:
    """Take tile sizes from the file `path`, from the next launch on; None: the committed table.

    The bits of forward results and input gradients do not change; the last bits of weight gradients may.

    Raises
    ------
    sparsenet.toml.TomlError : with the name of the file and the fault.
    """
    name = "sparsenet.kernels.cuda.tiles"
    if path is not None or name in sys.modules:  # the committed table is the first one
        from sparsenet.kernels.cuda import tiles

        tiles.set_tile_table(path)
