"""One step of gradient descent with momentum for all parameters, in one pass over their arrays.

    g = gradient / loss_scale + weight_decay * parameter
    v = momentum * v + (1 - dampening) * g
    parameter -= lr * v                                      or, with Nesterov's momentum,
    parameter -= lr * ((1 - dampening) * g + momentum * v)

PyTorch's conventions, but v starts at 0.  Without velocities: parameter -= lr * g.

float16 parameters (on a GPU) have float32 velocities and, if masters are given, float32 copies, which are updated; each
parameter is its rounded copy.
"""

from __future__ import annotations

from sparsenet.kernels.cpu.numba_cache import compiled
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.optim import adam  # noqa: F401  (registers its kernel)
from sparsenet.kernels.optim.blocks import blocks_of
from sparsenet.kernels.optim.contract import SGD_STEP


@SGD_STEP.implementation("cpu")
def _sgd_step_cpu(parameters, gradients, velocities, masters, lr, momentum, dampening, nesterov, weight_decay,
                  loss_scale):
    """Update parameters and velocities in place; the arithmetic is in their dtype."""
    if not parameters:
        return
    number = parameters[0].dtype.type
    rate, decay, unscale = number(lr), number(weight_decay), number(1 / loss_scale)
    kept, added = number(momentum), number(1 - dampening)
    blocks = blocks_of(parameters)

    def block(index: int) -> None:
        i, chosen = blocks[index]
        if velocities is None:
            _plain(parameters[i][chosen], gradients[i][chosen], rate, decay, unscale)
        else:
            _with_momentum(parameters[i][chosen], gradients[i][chosen], velocities[i][chosen], rate, kept, added,
                           nesterov, decay, unscale)

    run_blocks(block, len(blocks))


@compiled
def _plain(parameter, gradient, rate, decay, unscale):
    for i in range(parameter.size):
        parameter[i] -= rate * (gradient[i] * unscale + decay * parameter[i])


@compiled
def _with_momentum(parameter, gradient, velocity, rate, kept, added, nesterov, decay, unscale):
    for i in range(parameter.size):
        new = added * (gradient[i] * unscale + decay * parameter[i])
        velocity[i] = kept * velocity[i] + new
        parameter[i] -= rate * (new + kept * velocity[i] if nesterov else velocity[i])
