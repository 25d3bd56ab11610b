"""Soft shrinkage on a GPU: soft_shrink.cu, a thread for each number."""

from __future__ import annotations

from sparsenet.backend import array_module
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.soft_shrink.contract import SOFT_SHRINK_BACKWARD, SOFT_SHRINK_FORWARD

SOURCE = CudaSource("soft_shrink/soft_shrink", variants=SCALARS.values())  # compiled ahead and tested in each of them


@SOFT_SHRINK_FORWARD.implementation("cuda")
def _forward_cuda(x, limit):
    out = array_module(x).empty_like(x)
    kernel = SOURCE.kernel("soft_shrink_forward", **scalars_of(x))
    kernel(blocks_for(x.size), THREADS, x, limit, x.size, out)  # in the order of the signature in the .cu, checked
    return out


@SOFT_SHRINK_BACKWARD.implementation("cuda")
def _backward_cuda(x, gradient, limit):
    out = array_module(x).empty_like(x)
    kernel = SOURCE.kernel("soft_shrink_backward", **scalars_of(x))
    kernel(blocks_for(x.size), THREADS, x, gradient, limit, x.size, out)
    return out
