"""The profile of a step."""

from __future__ import annotations

import numpy as np

from benchmarks.profile import Profile
from sparsenet.kernels import launch
from sparsenet.kernels.table import Kernel


def test_kernels_are_timed_by_phase(rng):
    a, b = rng.standard_normal((300, 40), np.float32), rng.standard_normal((40, 8), np.float32)
    profile = Profile(phase="forward")
    with profile.open():
        product = launch("matmul", a, b)
        profile.phase = "backward"
        launch("matmul", a, b)
    assert np.array_equal(product, launch("matmul", a, b))
    assert list(profile.kernels) == [("forward", "matmul"), ("backward", "matmul")]
    assert all(0 < seconds < 60 for seconds in profile.kernels.values())


def test_the_kernels_are_restored_even_after_an_error():
    call = Kernel.__call__
    try:
        with Profile().open():
            assert Kernel.__call__ is not call
            raise KeyError
    except KeyError:
        pass
    assert Kernel.__call__ is call
