"""How much a training step asks of a GPU: launches of our kernels, of CuPy's, and waits, at the paper's batch.

Nothing is computed here: kernels leave their results as they are.  What a step launches follows from shapes alone,
so the counts are those of a GPU; an operation of CuPy's is one launch or more.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from cuda_host import cupy_of_numpy

from sparsenet import ops
from sparsenet.backend import to_device
from sparsenet.kernels import counting, launch
from sparsenet.nn import s3dcnn
from sparsenet.optim import SGD
from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Augmentation, MeshBatch, parametric_mesh
from sparsenet.sparse import ActiveSites, SparseTensor, prepare

BATCH, RENDER_SIZE = 64, 40


class Idle:
    """Launches nothing."""

    def address(self, array, kernel: str, name: str) -> int:
        return array.__array_interface__["data"][0]

    def compile(self, kernel):
        return lambda *launch: None


@pytest.fixture(scope="module")
def sites() -> ActiveSites:
    """The paper's batch on the CPU, with rulebooks."""
    meshes = [parametric_mesh(CLASSES[number % len(CLASSES)], keyed_rng(number)) for number in range(BATCH)]
    placements = [Augmentation("so3").draw(keyed_rng(1, number), RENDER_SIZE) for number in range(BATCH)]
    sites, _ = MeshBatch(meshes).voxelize(126, RENDER_SIZE, placements)
    prepare(sites, s3dcnn().geometries())
    return sites


def on_device(sites: ActiveSites) -> ActiveSites:
    there = sites.to("cuda")
    there.coordinates = to_device(sites.coordinates, "cuda")
    return there


def moved(sites: ActiveSites) -> ActiveSites:
    """The sites on the device, with the rulebooks that a loader of training builds."""
    first = here = on_device(sites)
    for number, geometry in enumerate(s3dcnn().geometries()):
        before, rulebook = sites.rulebook(geometry), here.rulebook(geometry)
        sites = before.output_sites
        vars(rulebook)["_output_sites"] = here = on_device(sites)
        vars(rulebook)["neighbours"] = to_device(before.neighbours, "cuda")
        if number:
            vars(rulebook)["transposed_neighbours"] = to_device(before.transposed_neighbours, "cuda")
    return first


def asked(function) -> tuple[Counter, Counter, int]:
    """Our launches, CuPy's, by name; waits."""
    cupy_of_numpy.operations().clear()
    before = cupy_of_numpy.waits()
    with counting() as counts:
        function()
    return counts.launches, Counter(cupy_of_numpy.operations()), cupy_of_numpy.waits() - before


@pytest.fixture
def step(sites):
    """A training step of S3DCNN after a first one."""
    with cupy_of_numpy.installed(Idle()), np.errstate(all="ignore"):
        net = s3dcnn(40).to("cuda")
        optimizer = SGD(net.named_parameters(), 2e-3, 0.9, 0.9, nesterov=True)
        labels = np.arange(BATCH) % 40  # on the host, as a loader gives them

        def train(x: SparseTensor) -> None:
            ops.softmax_cross_entropy(net(x), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        inputs = [SparseTensor.from_sites(to_device(np.ones((len(sites), 1), np.float32), "cuda"), moved(sites))
                  for _ in range(2)]
        train(inputs.pop())
        for tensor in net.parameters():  # as training leaves them
            tensor.array[...] = 0.5
        yield lambda: train(inputs.pop())


# At most, of one step: found by this test.  Fewer is better: lower them then, here and in docs/kernels.md.
OURS, CUPYS = 69, 87


def test_launches_and_waits_of_a_training_step(step):
    with counting() as counts:
        ours, cupys, waits = asked(step)
    assert ours["convolution_forward"] == 6 + 5 and ours["convolution_weight_gradient"] == 6
    assert ours["sgd_step"] == 1
    assert 50 < sum(ours.values()) <= OURS, ours
    assert 60 < sum(cupys.values()) <= CUPYS, cupys
    assert waits == counts.waits == 0


def test_counts_are_of_the_thread_and_may_be_nested():
    x = np.ones((3, 2), np.float32)
    with cupy_of_numpy.installed(Idle()):
        x = to_device(x, "cuda")
        with counting() as outer:
            launch("leaky_relu_forward", x, 0.5)
            with counting() as inner:
                launch("leaky_relu_forward", x, 0.5)
                to_device(x, "cpu")
        assert (outer.launched, inner.launched, outer.waits, inner.waits) == (2, 1, 1, 1)
