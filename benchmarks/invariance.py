"""The cost of batch invariance: the same forward passes in training and in evaluation mode, interleaved, with
rulebooks built by a loader."""

from __future__ import annotations

import numpy as np

from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.steps import Steps
from benchmarks.timing import Case, Settings, case, interleave
from benchmarks.workloads import GRID, WORKLOADS, Workload
from sparsenet import ops
from sparsenet.autograd import no_grad
from sparsenet.sparse import SparseTensor, prepare

SECTION = "batch invariance"
BATCHES, RENDER_SIZE = (60, 1), 40
GOAL = 1.1  # of a forward step, evaluation over training


def measure_invariance(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section: milliseconds of each pass in both modes, and the ratio of evaluation to training.

    Raises RuntimeError if a shape does not have the same bits alone and in the batch.
    """
    batches, size = ((4, 1), 20) if settings.quick else (BATCHES, RENDER_SIZE)
    _verify(shapes, batches[0], size)
    for batch in batches:
        steps = Steps(shapes.batch(batch, size), "cpu")
        _measure(f"S3DCNN, render {size}, batch {batch}", {mode: _forward(steps, mode) for mode in (True, False)},
                 results, settings, GOAL if batch > 1 else None)
    for workload in WORKLOADS:
        _measure(workload.name, {mode: _convolution(workload, mode) for mode in (True, False)}, results, settings)


def _measure(name: str, cases: dict[bool, Case], results: Results, settings: Settings,
             goal: float | None = None) -> None:
    """cases : forward passes by mode, True for training"""
    times = interleave({"training": cases[True], "evaluation": cases[False]}, settings)
    for mode, timing in times.items():
        results.add(SECTION, name, mode, 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
    results.add(SECTION, name, "evaluation / training", times["evaluation"].median / times["training"].median, "x",
                spread=max(timing.spread for timing in times.values()), better="lower", goal=goal)


def _forward(steps: Steps, training: bool) -> Case:
    def run(x: SparseTensor) -> object:
        with no_grad():
            return steps.net.train(training)(x)

    return case(run, steps.prepared)


def _convolution(workload: Workload, training: bool) -> Case:
    given = workload.arrays()
    layer = workload.layer(given["weight"])
    x = SparseTensor(given["features"], given["coordinates"], GRID, 1)
    prepare(x.sites, [layer.geometry])

    def run() -> object:
        with no_grad():
            return ops.convolution(x, layer.weight, None, layer.geometry, batch_invariant=not training)

    return case(run)


def _verify(shapes: Shapes, batch: int, size: int) -> None:
    """Check that each shape of the batch has the same bits as alone."""
    net = Steps(shapes.batch(1, size), "cpu").net.eval()
    with no_grad(), shapes.meshes.batches(1, field=net.field, render_size=size) as singles:
        together = net(shapes.batch(batch, size)).numpy()
        for row, single in zip(together, singles, strict=False):
            if not np.array_equal(net(single).numpy()[0], row):
                raise RuntimeError("batch invariance: a shape has other bits alone than in a batch")
