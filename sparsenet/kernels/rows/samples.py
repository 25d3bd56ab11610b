"""A row for each sample, added to the rows of its sites, subtracted from them, or multiplied by them.

    out[n, c] = values[n, c] + rows[coordinates[n, 0], c]         (or -, or *)

There is one row for each sample, or a single one for all samples: a background that they share.  Limited by memory.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.rows.contract import ADD_SAMPLE_ROWS as ADD
from sparsenet.kernels.rows.contract import MULTIPLY_SAMPLE_ROWS as MULTIPLY
from sparsenet.kernels.rows.contract import SUBTRACT_SAMPLE_ROWS as SUBTRACT

_BLOCK = 1 << 16  # elements
_ADD, _SUBTRACT, _MULTIPLY = range(3)


@ADD.implementation("cpu")
def _add_cpu(values, rows, coordinates):
    """(N, C)"""
    return _combined(values, rows, coordinates, _ADD)


@SUBTRACT.implementation("cpu")
def _subtract_cpu(values, rows, coordinates):
    """(N, C)"""
    return _combined(values, rows, coordinates, _SUBTRACT)


@MULTIPLY.implementation("cpu")
def _multiply_cpu(values, rows, coordinates):
    """(N, C)"""
    return _combined(values, rows, coordinates, _MULTIPLY)


def _combined(values, rows, coordinates, operation):
    out = np.empty(values.shape, values.dtype)
    run_rows(lambda start, stop: _combine(values[start:stop], rows, coordinates[start:stop], operation,
                                          out[start:stop]),
             len(values), max(1, _BLOCK // max(1, values.shape[1])))
    return out


@compiled
def _combine(values, rows, coordinates, operation, out):
    channels = values.shape[1]
    for n in range(values.shape[0]):
        sample = coordinates[n, 0] if rows.shape[0] > 1 else 0
        if operation == _ADD:
            for c in range(channels):
                out[n, c] = values[n, c] + rows[sample, c]
        elif operation == _SUBTRACT:
            for c in range(channels):
                out[n, c] = values[n, c] - rows[sample, c]
        else:
            for c in range(channels):
                out[n, c] = values[n, c] * rows[sample, c]
