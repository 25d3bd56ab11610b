"""The profile of a step."""

from __future__ import annotations

import numpy as np

from benchmarks.profile import Profile
from sparsenet.kernels import launch
from sparsenet.kernels.table import Kernel


def test_kernels_and_their_products_are_seen(rng):
    a, b = rng.standard_normal((300, 40), np.float32), rng.standard_normal((40, 8), np.float32)
    profile = Profile(phase="forward")
    with profile.open():
        product = launch("matmul", a, b)
    assert np.array_equal(product, launch("matmul", a, b))
    assert list(profile.kernels) == [("forward", "matmul")]
    assert profile.multiply_adds == 300 * 40 * 8
    assert 0 < profile.product_seconds <= profile.kernels["forward", "matmul"] * 8
    assert profile.replay() > 0


def test_everything_is_put_back_even_after_an_error():
    call, matmul = Kernel.__call__, np.matmul
    try:
        with Profile().open():
            assert np.matmul is not matmul
            raise KeyError
    except KeyError:
        pass
    assert Kernel.__call__ is call
    assert np.matmul is matmul


def test_a_transposed_operand_is_another_shape(rng):
    a, b = rng.standard_normal((40, 30), np.float32), rng.standard_normal((40, 8), np.float32)
    profile = Profile()
    with profile.open():
        np.matmul(a.T, b)
        np.matmul(b.T, a)
        np.matmul(b.T, a)
    assert {shape: calls for shape, (calls, _) in profile.products.items()} == {(30, 40, 8, True): 1,
                                                                               (8, 40, 30, True): 2}
