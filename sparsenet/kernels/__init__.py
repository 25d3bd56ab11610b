"""Kernels, found by name through `launch` (see table.py).

Each family has a folder: contract.py declares its kernels, reference.py has their formulas, cpu.py and cuda.py the fast
implementations, beside the CUDA sources.  cpu/ and cuda/ are the machinery of these two backends.

Contracts and formulas are the specification.  `sn.set_backend("reference")`, or SPARSENET_BACKEND=reference, runs
whole networks on the formulas: one function of NumPy for each kernel, no threads, nothing compiled, so that a debugger
can step through a whole training step.  They promise values, not bits.

Letters: N input sites, M output sites, K kernel offsets, P pairs, C channels, D dimensions, B samples, S runs of rows.
"""

# ruff: noqa: F401  (each contract that is imported declares its kernels)

import sys
from pathlib import Path

import sparsenet.kernels.activations.contract
import sparsenet.kernels.cell_sums.contract
import sparsenet.kernels.convolution.contract
import sparsenet.kernels.grouped.contract
import sparsenet.kernels.hash_table.contract
import sparsenet.kernels.level.contract
import sparsenet.kernels.losses.contract
import sparsenet.kernels.matmul.contract
import sparsenet.kernels.norm.contract
import sparsenet.kernels.optim.contract
import sparsenet.kernels.points.contract
import sparsenet.kernels.pooling.contract
import sparsenet.kernels.rows.contract
import sparsenet.kernels.rulebook.contract
import sparsenet.kernels.voxels.contract
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
