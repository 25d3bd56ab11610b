"""The step on a GPU, by sgd.cu: up to 16 parameters in each launch."""

from __future__ import annotations

from sparsenet.kernels.contracts import SGD_STEP
from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of

_TENSORS = 16  # per launch, as in sgd.cu
SOURCE = CudaSource("optim/sgd", variants=SCALARS.values())


@SGD_STEP.implementation("cuda")
def _sgd_step_cuda(parameters, gradients, velocities, masters, lr, momentum, dampening, nesterov, weight_decay,
                   loss_scale):
    nothing = [None] * len(parameters)
    lists = parameters, gradients, velocities or nothing, masters or nothing
    tensors = [tensor for tensor in zip(*lists, strict=True) if tensor[0].size]
    for first in range(0, len(tensors), _TENSORS):
        some = tensors[first:first + _TENSORS]
        slots = [value for tensor in some for value in (*tensor, tensor[0].size)]
        slots += (None, None, None, None, 0) * (_TENSORS - len(some))
        kernel = SOURCE.kernel("sgd_step", **scalars_of(some[0][0]))
        grid = blocks_for(max(tensor[0].size for tensor in some)), len(some)
        kernel(grid, THREADS, lr, weight_decay, momentum, 1 - dampening, nesterov, 1 / loss_scale, *slots)
