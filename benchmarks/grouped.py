"""Grouped and depthwise convolution, beside the same layer without groups and torch's grouped convolution of the grid.

Submanifold 3^3 on the surface of `workloads`, 64 -> 64 channels.  The layer without groups has the weights of the
groups as blocks of a matrix and zeros elsewhere, so that all compute one function: their outputs and gradients are
compared before anything is timed.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks import peers, reference
from benchmarks.figures import Results
from benchmarks.timing import Settings, case, inner, interleave
from benchmarks.workloads import GRID, Workload
from sparsenet.nn import SubmanifoldConv
from sparsenet.sparse import SparseTensor

SECTION = "grouped convolution"
CHANNELS, SIZE = 64, 3
GROUPS = (8, CHANNELS)
GOAL = 1.0  # the time without groups over that with them
PASSES = ("forward", "backward")


class Task:
    """A layer, its input, and the gradient of its output."""

    def __init__(self, weight: np.ndarray, groups: int):
        rng = np.random.default_rng(3)
        self.coordinates = Workload("surface", SIZE, submanifold=True).coordinates()
        self.features, self.gradient = rng.standard_normal((2, len(self.coordinates), CHANNELS), np.float32)
        self.layer = SubmanifoldConv(CHANNELS, CHANNELS, SIZE, groups=groups, bias=False)
        self.layer.weight.array = weight
        self.x = SparseTensor(self.features, self.coordinates, GRID, 1)
        self.x.features.requires_grad = True

    def forward(self, x: SparseTensor | None = None) -> SparseTensor:
        return self.layer(self.x if x is None else x)

    def fresh(self) -> SparseTensor:
        """An output whose graph leads to features and weights."""
        self.layer.weight.grad = None
        return self.forward(self.x.with_features(inner(self.x.features), self.x.background))

    def backward(self, y: SparseTensor) -> None:
        y.features.backward(self.gradient)

    def results(self) -> dict[str, np.ndarray]:
        """The output and both gradients."""
        self.x.features.grad = self.layer.weight.grad = None
        y = self.forward()
        self.backward(y)
        return {"output": y.features.numpy(), "input_gradient": self.x.features.grad,
                "weight_gradient": self.layer.weight.grad}


def measure_grouped(results: Results, settings: Settings) -> None:
    """Add the section: milliseconds of each pass with and without groups, and in torch on the dense grid.

    Raises RuntimeError if they differ.
    """
    with ExitStack() as stack:
        running = [stack.enter_context(peer) for peer in peers.available(settings.peers, results.notes.append,
                                                                         settings.device, ("torch",))]
        for groups in GROUPS:
            _measure(groups, running, results, settings)


def _measure(groups: int, running: list[peers.Peer], results: Results, settings: Settings) -> None:
    name = f"{CHANNELS} channels, {'depthwise' if groups == CHANNELS else f'{groups} groups'}"
    weight = np.random.default_rng(4).standard_normal((SIZE ** 3, CHANNELS // groups, CHANNELS), np.float32)
    tasks = {"": Task(weight, groups), ", without groups": Task(_blocks(weight, groups), 1)}
    expected = tasks[", without groups"].results()
    expected["weight_gradient"] = _of_groups(expected["weight_gradient"], groups)
    for what, found in tasks[""].results().items():
        reference.check(f"{name}: {what}", found, expected[what])
    cases = {}
    for suffix, task in tasks.items():
        cases[f"forward{suffix}"] = case(task.forward)
        cases[f"backward{suffix}"] = case(task.backward, task.fresh)
    for peer in running:
        if _agrees(peer, tasks[""], groups, name, expected, results):
            cases |= {f"{which}, {peer.name}": peer.case(which) for which in PASSES}
    times = interleave(cases, settings)
    for which, timing in times.items():
        results.add(SECTION, name, which, 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
    for which, timing in times.items():
        kind, _, other = which.partition(", ")
        if other:
            results.add(SECTION, name, f"{which} / ours", timing.median / times[kind].median, "x",
                        spread=max(timing.spread, times[kind].spread), better="higher",
                        goal=GOAL if other == "without groups" and not settings.quick else None)


def _blocks(weight: np.ndarray, groups: int) -> np.ndarray:
    """(K, C, C): the weights (K, C / groups, C) of each group as a block, zeros elsewhere."""
    dense = np.zeros((len(weight), CHANNELS, CHANNELS), weight.dtype)
    each = CHANNELS // groups
    for start in range(0, CHANNELS, each):
        dense[:, start:start + each, start:start + each] = weight[:, :, start:start + each]
    return dense


def _of_groups(dense: np.ndarray, groups: int) -> np.ndarray:
    """(K, C / groups, C): the blocks of (K, C, C), side by side."""
    each = CHANNELS // groups
    return np.concatenate([dense[:, start:start + each, start:start + each] for start in range(0, CHANNELS, each)],
                          axis=2)


def _agrees(peer: peers.Peer, task: Task, groups: int, name: str, expected: dict[str, Any], results: Results) -> bool:
    """Whether the peer's output and gradients are ours; if not, it is noted and not timed."""
    try:
        got = peer.set_up("convolution", {"coordinates": task.coordinates, "features": task.features,
                                          "weight": task.layer.weight.numpy(), "gradient": task.gradient,
                                          "grid": np.array(GRID), "output_coordinates": task.coordinates},
                          size=SIZE, stride=1, padding=SIZE // 2, submanifold=True, groups=groups)
        for what, array in expected.items():
            reference.check(f"{peer.label}, {name}: {what}", got[what], array)
    except (peers.PeerError, RuntimeError) as error:
        results.notes.append(f"{peer.label}, {name}: left out: {error}")
        return False
    return True
