"""Initial weights, as in the code behind the paper: U(-r, r), r = sqrt(6 / (C_in*K + C_out*a)).

This is the bound of Glorot & Bengio (2010) with an effective fan-out: a = (size / stride / pool)^2, where `pool` is
the size of the max-pooling that follows (1 if none does).  In the paper's network a is 4/9 before a 3-pool, 4 for the
last convolution, 1 for the classifier.  In a grouped convolution C_in and C_out are those of a group.  Biases are
initialised to 0.

An average or sum pooling that follows changes nothing: every cell of a window, and not only the one that wins, gets a
gradient there.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np

from sparsenet.autograd import Parameter
from sparsenet.sparse.geometry import Geometry


def fan_out_factor(geometry: Geometry, pool: tuple[int, ...] | None = None) -> float:
    """a, for a convolution with this filter; if its sides differ, their geometric mean counts."""
    pool = pool or (1,) * geometry.dimension
    return (geometry.volume / prod(geometry.stride) / prod(pool)) ** (2 / geometry.dimension)


def weight_bound(fan_in: int, out_channels: int, factor: float = 1.0) -> float:
    """r, from fan_in = C_in*K, out_channels = C_out and factor = a."""
    return sqrt(6 / (fan_in + out_channels * factor))


def uniform(shape: tuple[int, ...], bound: float, rng: Any = None) -> Parameter:
    """A float32 parameter of the given shape, uniform in (-bound, bound).

    rng : numpy Generator, or a seed (int); None: seeded by the operating system
    """
    values = np.random.default_rng(rng).uniform(-1, 1, shape)
    return Parameter((bound * values).astype(np.float32))


def zeros(shape: tuple[int, ...]) -> Parameter:
    """A float32 parameter of the given shape, all zeros."""
    return Parameter(np.zeros(shape, np.float32))
