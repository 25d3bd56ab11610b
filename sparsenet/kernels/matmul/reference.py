"""Matrix products."""

from __future__ import annotations

from sparsenet.kernels.table import formula_of


@formula_of("matmul", "matmul_by_row")
def matmul(a, b):
    """(M, N) = a @ b."""
    return a @ b
