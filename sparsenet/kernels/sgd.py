"""One step of gradient descent with momentum for all parameters, in one pass over their arrays.

    g = gradient + weight_decay * parameter
    v = momentum * v + (1 - dampening) * g
    parameter -= lr * v                                      or, with Nesterov's momentum,
    parameter -= lr * ((1 - dampening) * g + momentum * v)

PyTorch's conventions, but v starts at 0.  Without velocities: parameter -= lr * g.
"""

from __future__ import annotations

import numba

from sparsenet.kernels.cuda import THREADS, CudaSource, blocks_for, ctype
from sparsenet.kernels.table import Arrays, Scalar, declare
from sparsenet.kernels.threads import run_blocks

_BLOCK = 1 << 16  # elements
_TENSORS = 16  # per CUDA launch, as in sgd.cu

SOURCE = CudaSource("sgd")
VARIANTS = [("sgd_step", {"SCALAR": scalar}) for scalar in ("float", "double")]

SGD_STEP = declare(
    "sgd_step",
    parameters=Arrays("float", "N"),
    gradients=Arrays("float", "N"),
    velocities=Arrays("float", "N", optional=True),
    lr=Scalar(float),
    momentum=Scalar(float),
    dampening=Scalar(float),
    nesterov=Scalar(bool),
    weight_decay=Scalar(float),
)


@SGD_STEP.implementation("cpu")
def _sgd_step_cpu(parameters, gradients, velocities, lr, momentum, dampening, nesterov, weight_decay):
    """Writes parameters and velocities in place; the arithmetic is in their dtype."""
    if not parameters:
        return
    number = parameters[0].dtype.type
    rate, decay = number(lr), number(weight_decay)
    kept, added = number(momentum), number(1 - dampening)
    blocks = [(i, slice(start, start + _BLOCK)) for i, array in enumerate(parameters)
              for start in range(0, array.size, _BLOCK)]

    def block(index: int) -> None:
        i, chosen = blocks[index]
        if velocities is None:
            _plain(parameters[i][chosen], gradients[i][chosen], rate, decay)
        else:
            _with_momentum(parameters[i][chosen], gradients[i][chosen], velocities[i][chosen], rate, kept, added,
                           nesterov, decay)

    run_blocks(block, len(blocks))


@SGD_STEP.implementation("cuda")
def _sgd_step_cuda(parameters, gradients, velocities, lr, momentum, dampening, nesterov, weight_decay):
    velocities = [None] * len(parameters) if velocities is None else velocities
    tensors = [tensor for tensor in zip(parameters, gradients, velocities, strict=True) if tensor[0].size]
    for first in range(0, len(tensors), _TENSORS):
        some = tensors[first:first + _TENSORS]
        slots = [value for tensor in some for value in (*tensor, tensor[0].size)]
        slots += (None, None, None, 0) * (_TENSORS - len(some))
        kernel = SOURCE.kernel("sgd_step", SCALAR=ctype(some[0][0]))
        grid = blocks_for(max(tensor[0].size for tensor in some)), len(some)
        kernel(grid, THREADS, lr, weight_decay, momentum, 1 - dampening, nesterov, *slots)


@numba.njit(nogil=True, cache=True)
def _plain(parameter, gradient, rate, decay):
    for i in range(parameter.size):
        parameter[i] -= rate * (gradient[i] + decay * parameter[i])


@numba.njit(nogil=True, cache=True)
def _with_momentum(parameter, gradient, velocity, rate, kept, added, nesterov, decay):
    for i in range(parameter.size):
        new = added * (gradient[i] + decay * parameter[i])
        velocity[i] = kept * velocity[i] + new
        parameter[i] -= rate * (new + kept * velocity[i] if nesterov else velocity[i])
