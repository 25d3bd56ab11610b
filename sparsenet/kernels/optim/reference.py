"""The steps of optimizers, in place."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.table import formula_of


@formula_of("sgd_step")
def sgd_step(parameters, gradients, velocities, masters, lr, momentum, dampening, nesterov, weight_decay, loss_scale):
    """In place v = momentum v + (1 - dampening) g, parameter -= lr v; Nesterov: lr ((1 - dampening) g + momentum v)."""
    for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        step = (gradient / loss_scale + weight_decay * parameter) * (1 if velocities is None else 1 - dampening)
        if velocities is not None:
            velocities[i][:] = momentum * velocities[i] + step
            step = step + momentum * velocities[i] if nesterov else velocities[i]
        parameter -= lr * step


@formula_of("adam_step")
def adam_step(parameters, gradients, means, squares, maxima, masters, lr, beta1, beta2, eps, weight_decay, decoupled,
              steps, loss_scale):
    """In place; decoupled, the decay is taken off first.  With maxima, the largest v so far takes its place."""
    for i, (parameter, gradient, m, v) in enumerate(zip(parameters, gradients, means, squares, strict=True)):
        g = gradient / loss_scale + (0 if decoupled else weight_decay) * parameter
        m[:], v[:] = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        v = v if maxima is None else np.maximum(v, maxima[i], out=maxima[i])
        parameter *= 1 - (lr * weight_decay if decoupled else 0)
        parameter -= lr * (m / (1 - beta1**steps)) / (np.sqrt(v / (1 - beta2**steps)) + eps)
