"""The cost of batch invariance: the same forward passes in training and in evaluation mode, interleaved, with
rulebooks built by a loader; and evaluation layer by layer, as it runs with a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.steps import Steps
from benchmarks.timing import Case, Settings, Timing, case, interleave
from benchmarks.workloads import GRID, WORKLOADS, Workload
from sparsenet import ops
from sparsenet.autograd import no_grad
from sparsenet.sparse import SparseTensor, prepare

SECTION = "batch invariance"
BATCHES, RENDER_SIZE = (60, 1), 40
GOAL = 1.1  # of a forward step, evaluation over training
FUSED_GOAL = 1.3  # layer by layer over evaluation


def measure_invariance(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section: milliseconds of each pass in both modes, and the ratio of evaluation to training.

    Raises RuntimeError if a shape does not have the same bits alone and in the batch.
    """
    batches, size = ((4, 1), 20) if settings.quick else (BATCHES, RENDER_SIZE)
    _verify(shapes, batches[0], size)
    for batch in batches:
        steps = Steps(shapes.batch(batch, size), "cpu")
        name, goals = f"S3DCNN, render {size}, batch {batch}", (GOAL, FUSED_GOAL) if batch > 1 else (None, None)
        times = _measure(name, {"training": _forward(steps, True), "evaluation": _forward(steps, False),
                                "evaluation, layer by layer": _layer_by_layer(steps)}, results, settings, goals[0])
        single, fused = times["evaluation, layer by layer"], times["evaluation"]
        results.add(SECTION, name, "layer by layer / evaluation", single.median / fused.median, "x",
                    spread=max(single.spread, fused.spread), better="higher", goal=goals[1])
    for workload in WORKLOADS:
        _measure(workload.name, {"training": _convolution(workload, True), "evaluation": _convolution(workload, False)},
                 results, settings)


def _measure(name: str, cases: dict[str, Case], results: Results, settings: Settings,
             goal: float | None = None) -> dict[str, Timing]:
    """cases : forward passes by name, those of both modes among them"""
    times = interleave(cases, settings)
    for kind, timing in times.items():
        results.add(SECTION, name, kind, 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
    training, evaluation = times["training"], times["evaluation"]
    results.add(SECTION, name, "evaluation / training", evaluation.median / training.median, "x",
                spread=max(training.spread, evaluation.spread), better="lower", goal=goal)
    return times


def _forward(steps: Steps, training: bool) -> Case:
    def run(x: SparseTensor) -> object:
        with no_grad():
            return steps.net.train(training)(x)

    return case(run, steps.prepared)


def _layer_by_layer(steps: Steps) -> Case:
    def run(x: Any) -> Any:
        with no_grad():
            for layer in steps.net.eval().layers:
                x = layer(x)
            return x

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
