"""The gradient of a loss scaled on its way back.

A loss makes its gradient together with its value, as for a gradient of 1 from behind: that is what `backward`
begins with, and nothing is left to do then.  Otherwise the gradient is scaled where it lies.
"""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.contracts import SCALE_GRADIENT
from sparsenet.kernels.cpu.threads import run_blocks
from sparsenet.kernels.losses import softmax_cross_entropy, triplet_loss  # noqa: F401  (register their kernels)

_BLOCK = 1 << 16  # elements


@SCALE_GRADIENT.implementation("cpu")
def _scale_cpu(gradient, factor):
    """Multiplies the gradient (N,) by the factor () in place."""
    if factor == 1:
        return

    def block(index: int) -> None:
        chosen = gradient[index * _BLOCK : (index + 1) * _BLOCK]
        np.multiply(chosen, factor, out=chosen)

    run_blocks(block, -(-gradient.size // _BLOCK))
