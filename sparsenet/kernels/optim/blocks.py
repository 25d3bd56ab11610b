"""Blocks of parameters, which a step on a CPU shares out to its threads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BLOCK = 1 << 16  # elements


def blocks_of(parameters: Sequence[np.ndarray]) -> list[tuple[int, slice]]:
    """(number of the parameter, its elements) of each block, all parameters' in one list."""
    return [(i, slice(start, start + _BLOCK)) for i, array in enumerate(parameters)
            for start in range(0, array.size, _BLOCK)]
