"""One step of gradient descent with momentum, in one pass over the arrays.

    g = gradient + weight_decay * parameter
    v = momentum * v + (1 - dampening) * g
    parameter -= lr * v                                      or, with Nesterov's momentum,
    parameter -= lr * ((1 - dampening) * g + momentum * v)

PyTorch's conventions, but v starts at 0.  Without a velocity: parameter -= lr * g.
"""

from __future__ import annotations

import numba
import numpy as np

from sparsenet.kernels.table import Array, Scalar, declare
from sparsenet.kernels.threads import run_blocks

_BLOCK = 1 << 16  # elements

SGD_STEP = declare(
    "sgd_step",
    parameter=Array("float", "N"),
    gradient=Array("float", "N"),
    velocity=Array("float", "N", optional=True),
    lr=Scalar(float),
    momentum=Scalar(float),
    dampening=Scalar(float),
    nesterov=Scalar(bool),
    weight_decay=Scalar(float),
)


@SGD_STEP.implementation("cpu")
def _sgd_step_cpu(parameter: np.ndarray, gradient: np.ndarray, velocity: np.ndarray | None, lr: float,
                  momentum: float, dampening: float, nesterov: bool, weight_decay: float) -> None:
    """Writes `parameter` and `velocity` in place; the arithmetic is in their dtype."""
    number = parameter.dtype.type
    rate, decay = number(lr), number(weight_decay)
    kept, added = number(momentum), number(1 - dampening)

    def block(index: int) -> None:
        chosen = slice(index * _BLOCK, (index + 1) * _BLOCK)
        if velocity is None:
            _plain(parameter[chosen], gradient[chosen], rate, decay)
        else:
            _with_momentum(parameter[chosen], gradient[chosen], velocity[chosen], rate, kept, added,
                           nesterov, decay)

    run_blocks(block, -(-parameter.size // _BLOCK))


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
