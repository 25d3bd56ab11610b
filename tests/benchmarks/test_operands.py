"""Operands that are found from their places: the same in parts, and in a peer's process."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import operands


def test_a_part_is_that_of_the_whole():
    whole = operands.whole("features", 300, 20)
    rows, columns = np.array([5, 299, 0]), np.arange(3, 9)
    np.testing.assert_array_equal(operands.operand("features", rows, columns, 20), whole[rows][:, columns])


def test_mean_variance_and_differences_between_operands():
    features, gradient = (operands.whole(name, 1000, 64) for name in ("features", "gradient"))
    for array in (features, gradient):
        assert array.dtype == np.float32 and abs(array.mean()) < 0.02 and array.var() == pytest.approx(1, rel=0.02)
        assert np.abs(np.corrcoef(array[:-1].ravel(), array[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(features.ravel(), gradient.ravel())[0, 1]) < 0.02
    assert operands.whole("weight", 1000, 64, depth=32).var() == pytest.approx(1 / (8 * 32), rel=0.02)


def test_a_peer_makes_the_same():
    torch = pytest.importorskip("torch", reason="torch is not installed: no peer to compare with")
    from benchmarks import peer_worker

    for name, depth in (("features", 0), ("weight", 32)):
        theirs = peer_worker.operand(name, 300, 20, depth)
        assert isinstance(theirs, torch.Tensor)
        np.testing.assert_array_equal(theirs.numpy(), operands.whole(name, 300, 20, depth=depth))


def test_a_peers_seeds_are_ours():
    """Without torch, too: its source names them."""
    from pathlib import Path

    source = (Path(operands.__file__).with_name("peer_worker.py")).read_text(encoding="utf-8")
    for name, seed in operands.SEEDS.items():
        assert f'"{name}": 0x{seed:08X}' in source
