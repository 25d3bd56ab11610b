"""Soft shrinkage, as its formula."""

from __future__ import annotations

import numpy as np

from sparsenet.kernels.table import formula_of


@formula_of("soft_shrink_forward")
def soft_shrink_forward(x, limit):
    """x without what of it lies between -limit and limit."""
    return x - np.clip(x, -limit, limit)


@formula_of("soft_shrink_backward")
def soft_shrink_backward(x, gradient, limit):
    """gradient if |x| > limit, else 0."""
    return np.where(np.abs(x) > limit, gradient, gradient.dtype.type(0))
