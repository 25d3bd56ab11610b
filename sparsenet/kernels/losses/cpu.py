"""Scaling the gradient of a loss in the backward pass.

A loss computes its gradient together with its value, for an incoming gradient of 1.  `backward` starts with 1, and then
nothing is left to do; otherwise the gradient is scaled in place.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.cpu.threads import run_rows
from sparsenet.kernels.losses import softmax_cross_entropy, triplet_loss  # noqa: F401  (register their kernels)
from sparsenet.kernels.losses.contract import SCALE_GRADIENT

_BLOCK = 1 << 16  # elements


@SCALE_GRADIENT.implementation("cpu")
def _scale_cpu(gradient, factor):
    """Multiply the gradient (N,) by the factor () in place."""
    if factor == 1:
        return

    def scale(start: int, stop: int) -> None:
        np.multiply(gradient[start:stop], factor, out=gradient[start:stop])

    run_rows(scale, gradient.size, _BLOCK)
