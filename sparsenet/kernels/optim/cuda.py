"""The steps on a GPU, by sgd.cu and adam.cu: up to 16 parameters in each launch."""

from __future__ import annotations

import math
from typing import Any

from sparsenet.kernels.cuda.source import SCALARS, THREADS, CudaSource, blocks_for, scalars_of
from sparsenet.kernels.optim.contract import ADAM_STEP, SGD_STEP

_TENSORS = 16  # per launch, as in the sources
SOURCE = CudaSource("optim/sgd", variants=SCALARS.values())
ADAM = CudaSource("optim/adam", variants=SCALARS.values())


@SGD_STEP.implementation("cuda")
def _sgd_step_cuda(parameters, gradients, velocities, masters, lr, momentum, dampening, nesterov, weight_decay,
                   loss_scale):
    settings = lr, weight_decay, momentum, 1 - dampening, nesterov, 1 / loss_scale
    _launch(SOURCE, "sgd_step", settings, parameters, gradients, velocities, masters)


@ADAM_STEP.implementation("cuda")
def _adam_step_cuda(parameters, gradients, means, squares, maxima, masters, lr, beta1, beta2, eps, weight_decay,
                    decoupled, steps, loss_scale):
    settings = (1 / loss_scale, 0.0 if decoupled else weight_decay, beta1, 1 - beta1, beta2, 1 - beta2,
                1 / math.sqrt(1 - beta2**steps), eps, lr / (1 - beta1**steps), lr * weight_decay if decoupled else 0.0)
    _launch(ADAM, "adam_step", settings, parameters, gradients, means, squares, maxima, masters)


def _launch(source: CudaSource, name: str, settings: tuple, parameters: list, *others: list | None) -> None:
    """The step of all parameters that are not empty; of the other lists each may be None."""
    nothing = [None] * len(parameters)
    lists = [parameters, *(nothing if one is None else one for one in others)]
    tensors: list[tuple[Any, ...]] = [tensor for tensor in zip(*lists, strict=True) if tensor[0].size]
    for first in range(0, len(tensors), _TENSORS):
        some = tensors[first:first + _TENSORS]
        slots = [value for tensor in some for value in (*tensor, tensor[0].size)]
        slots += [*[None] * len(lists), 0] * (_TENSORS - len(some))
        kernel = source.kernel(name, **scalars_of(some[0][0]))
        grid = blocks_for(max(tensor[0].size for tensor in some)), len(some)
        kernel(grid, THREADS, *settings, *slots)
