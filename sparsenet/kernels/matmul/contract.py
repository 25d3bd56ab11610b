"""The contracts of matrix products."""

from __future__ import annotations

from sparsenet.kernels.table import Array, declare

_FACTORS = {"a": Array("feature", "M K"), "b": Array("feature", "K N")}
MATMUL = declare("matmul", "matmul", "out = a b", **_FACTORS)
MATMUL_BY_ROW = declare("matmul_by_row", "matmul", "the same; the bits of a row depend on no other row", **_FACTORS)
