"""Points: the cells that they lie in, rows read at points, and rows of points reduced by group.

    cpu.py      the layouts are drawn there
    sorting.py  points grouped by cell, on a CPU
    cuda.py     on a GPU, through points.cu
"""

from sparsenet.kernels.points.contract import NO_SAMPLE, NOT_FINITE, OUTSIDE

__all__ = ["NOT_FINITE", "NO_SAMPLE", "OUTSIDE"]
