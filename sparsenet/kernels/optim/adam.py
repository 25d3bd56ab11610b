"""One step of Adam for all parameters, in one pass over their arrays.

    g = gradient / loss_scale + weight_decay * parameter
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g^2
    parameter -= lr * (m / (1 - beta1^steps)) / (sqrt(v / (1 - beta2^steps)) + eps)

Decoupled, the decay is not part of g: parameter -= lr * weight_decay * parameter instead.  With maxima, the largest v
so far takes the place of v in the last line.
"""

from __future__ import annotations

import math

import numpy as np

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.optim.blocks import blocks_of
from sparsenet.kernels.optim.contract import ADAM_STEP


@ADAM_STEP.implementation("cpu")
def _adam_step_cpu(parameters, gradients, means, squares, maxima, masters, lr, beta1, beta2, eps, weight_decay,
                   decoupled, steps, loss_scale):
    """Update parameters and what is kept of them in place; the arithmetic is in their dtype."""
    if not parameters:
        return
    number = parameters[0].dtype.type
    settings = tuple(map(number, (
        1 / loss_scale, 0 if decoupled else weight_decay, beta1, 1 - beta1, beta2, 1 - beta2,
        1 / math.sqrt(1 - beta2**steps), eps, lr / (1 - beta1**steps), lr * weight_decay if decoupled else 0)))
    largest = squares if maxima is None else maxima
    blocks = blocks_of(parameters)

    def block(index: int) -> None:
        i, chosen = blocks[index]
        _adam(parameters[i][chosen], gradients[i][chosen], means[i][chosen], squares[i][chosen], largest[i][chosen],
              maxima is not None, settings)

    run_blocks(block, len(blocks))


@compiled(error_model="numpy")
def _adam(parameter, gradient, mean, square, maximum, has_maximum, settings):
    unscale, penalty, kept1, added1, kept2, added2, whole, eps, rate, decay = settings
    for i in range(parameter.size):
        old = parameter[i]
        g = gradient[i] * unscale + penalty * old
        m = kept1 * mean[i] + added1 * g
        v = kept2 * square[i] + added2 * (g * g)
        mean[i], square[i] = m, v
        if has_maximum:
            v = max(v, maximum[i])
            maximum[i] = v
        parameter[i] = old - decay * old - rate * m / (np.sqrt(v) * whole + eps)
