"""Bits of words."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from sparsenet.kernels.cpu.bits import lowest, ones


@numba.njit
def _both(word):
    return ones(word), lowest(word)


@pytest.mark.parametrize(("word", "count", "first"), [
    (1, 1, 0), (2, 1, 1), (12, 2, 2), (-1, 64, 0), (-(1 << 63), 1, 63), (1 << 62, 1, 62), (5 << 40, 2, 40)])
def test_a_word(word, count, first):
    assert _both(np.int64(word)) == (count, first)


def test_no_bit():
    assert _both(np.int64(0))[0] == 0
