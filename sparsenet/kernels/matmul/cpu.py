"""Matrix product with the same bits for any number of threads.

    a (M, K)  x  b (K, N)  ->  out (M, N)

BLAS splits its work, and with it orders its sums, by the number of threads that it may use.  Here the rows of `a` are
cut into blocks of a size that depends on K and N alone, and each block is one product on one thread.  On a GPU, cuBLAS
computes the product: its bits are the same from run to run on one device; float16 is summed in float32
(CUBLAS_COMPUTE_32F).

`matmul_by_row` is the same product with a further promise on a CPU: the bits of a row depend on no other row of `a`,
which no BLAS guarantees (see cpu/row_products.py).
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.row_products import add_products
from sparsenet.kernels.cpu.threads import run_rows, single_threaded_blas
from sparsenet.kernels.matmul.contract import MATMUL
from sparsenet.kernels.matmul.contract import MATMUL_BY_ROW as BY_ROW

_BLOCK_WORK = 1 << 22  # multiply-adds: some 100 us, far more than handing a block to a thread takes
_MIN_ROWS = 32  # a product of fewer rows reaches a fraction of the matrix rate


@MATMUL.implementation("cpu")
def _matmul_cpu(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(M, N) in the dtype of a and b; zeros where K is 0."""
    (rows, depth), columns = a.shape, b.shape[1]
    out = np.empty((rows, columns), a.dtype)
    step = max(_MIN_ROWS, _BLOCK_WORK // max(1, depth * columns))
    with single_threaded_blas():
        run_rows(lambda start, stop: np.matmul(a[start:stop], b, out=out[start:stop]), rows, step)
    return out


@BY_ROW.implementation("cpu")
def _by_row_cpu(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(M, N), each row of which depends on no other row of a."""
    rows, columns = len(a), b.shape[1]
    out = np.zeros((rows, columns), a.dtype)
    links = np.repeat(np.arange(rows, dtype=np.int32), 2).reshape(rows, 2)  # each row with itself
    step = max(_MIN_ROWS, _BLOCK_WORK // max(1, len(b) * columns))
    run_rows(lambda start, stop: add_products(a, b[None], 0, links, start, stop, out), rows, step)
    return out
