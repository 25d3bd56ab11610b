"""Shared by tests of rulebooks: choosing one of the CPU's two ways to make one, and copying arrays to the host."""

from contextlib import AbstractContextManager
from unittest import mock

import numpy as np

from sparsenet.backend import to_device
from sparsenet.kernels.rulebook import bits as rulebook_bits


def host(array) -> np.ndarray:
    return to_device(array, "cpu")


def bits(used: bool) -> AbstractContextManager:
    """Bit maps for any grid, in many tasks of few sites, or for none."""
    if not used:
        return mock.patch.object(rulebook_bits, "MAX_WORDS_PER_SITE", 0)
    return mock.patch.multiple(rulebook_bits, MAX_WORDS_PER_SITE=10**9, MAX_READS_PER_SITE=10**9, _TASK_SITES=3,
                               _BUFFER_PAIRS=5)
