"""How much a training step asks of a GPU: launches of our kernels, of CuPy's, and waits, at the paper's batch.

Nothing is computed here: kernels leave their results as they are.  What a step launches follows from shapes alone,
so the counts are those of a GPU; an operation of CuPy's is one launch or more.
"""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import cupy_of_numpy, idle

from sparsenet.backend import to_device
from sparsenet.kernels import counting, launch
from sparsenet.sparse import ActiveSites


@pytest.fixture(scope="module")
def sites() -> ActiveSites:
    return idle.prepared_sites(*idle.PAPER)


@pytest.fixture
def step(sites):
    """A training step of S3DCNN after a first one."""
    with idle.training(sites) as train:
        yield train


# At most, of one step: found by this test.  Fewer is better: lower them then, here and in docs/kernels.md.
OURS, CUPYS = 33, 6


def test_launches_and_waits_of_a_training_step(step):
    with counting() as counts:
        ours, cupys, waits = idle.asked(step)
    assert ours["convolution_forward"] == 6 + 5 and ours["convolution_weight_gradient"] == 6
    assert ours["sgd_step"] == ours["level_backgrounds"] == ours["cell_sums"] == 1 and not ours["add_parts"]
    assert 30 < sum(ours.values()) <= OURS, ours
    assert 3 < sum(cupys.values()) <= CUPYS, cupys
    assert waits == counts.waits == 0


def test_counts_are_of_the_thread_and_may_be_nested():
    x = np.ones((3, 2), np.float32)
    with cupy_of_numpy.installed(idle.Idle()):
        x = to_device(x, "cuda")
        with counting() as outer:
            launch("leaky_relu_forward", x, 0.5)
            with counting() as inner:
                launch("leaky_relu_forward", x, 0.5)
                to_device(x, "cpu")
        assert (outer.launched, inner.launched, outer.waits, inner.waits) == (2, 1, 1, 1)
