"""What the losses have in common: a sum over rows on a GPU, and the gradient scaled on its way back.

A loss makes its gradient together with its value, as for a gradient of 1 from behind: that is what `backward`
begins with, and nothing is left to do then.  Otherwise the gradient is scaled where it lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.backend import array_module
from sparsenet.kernels.contracts import SCALE_GRADIENT
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.cuda.source import THREADS, CudaKernel, CudaSource, blocks_for, ctype

_BLOCK = 1 << 16  # elements
ROWS_OF_ONE_BLOCK = 256  # up to here one CUDA block takes all rows: one launch then, two otherwise
_ALONE = 512  # threads of it
_WARPS = THREADS // 32  # rows that a block has under way otherwise
_MOST_BLOCKS = 2048  # more than a GPU runs at a time

SOURCE = CudaSource("losses/losses")
VARIANTS = [(name, {"SCALAR": scalar}) for scalar in ("float", "double") for name in ("join_losses", "scale_gradient")]


@SCALE_GRADIENT.implementation("cpu")
def _scale_cpu(gradient, factor):
    """Multiplies the gradient (N,) by the factor () in place."""
    if factor == 1:
        return

    def block(index: int) -> None:
        chosen = gradient[index * _BLOCK : (index + 1) * _BLOCK]
        np.multiply(chosen, factor, out=chosen)

    run_blocks(block, -(-gradient.size // _BLOCK))


@SCALE_GRADIENT.implementation("cuda")
def _scale_cuda(gradient, factor):
    kernel = SOURCE.kernel("scale_gradient", SCALAR=ctype(gradient))
    kernel(blocks_for(gradient.size), THREADS, factor, gradient.size, gradient)


def mean_on_host(sums: np.ndarray, rows: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The loss () and its figures (2,) float64 from the sums (blocks, 2) of terms and of what is counted."""
    total, count = sums.sum(axis=0)
    loss = np.array(total / max(1, rows)).astype(dtype)
    return loss, np.array([loss, count], np.float64)


def mean_on_gpu(kernel: CudaKernel, rows: int, *arguments: Any) -> tuple[Any, Any]:
    """The same by a kernel that takes these arguments, then `sums`, `loss` and `figures`; the first argument is an
    array of the loss's dtype."""
    xp, dtype = array_module(arguments[0]), arguments[0].dtype
    if not rows:
        return xp.zeros((), dtype), xp.zeros(2, np.float64)
    loss, figures = xp.empty((), dtype), xp.empty(2, np.float64)
    if rows <= ROWS_OF_ONE_BLOCK:
        kernel(1, _ALONE, *arguments, None, loss, figures)
        return loss, figures
    sums = xp.empty((min(-(-rows // _WARPS), _MOST_BLOCKS), 2), np.float64)
    kernel(len(sums), THREADS, *arguments, sums, None, None)
    SOURCE.kernel("join_losses", SCALAR=ctype(loss))(1, THREADS, sums, len(sums), rows, loss, figures)
    return loss, figures
