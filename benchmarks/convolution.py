"""Convolution: each pass at the five workloads, verified, compared with the peers and with sgemm alone."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks import machine, peers, reference
from benchmarks.figures import Results
from benchmarks.timing import Case, Settings, Timing, case, inner, interleave
from benchmarks.workloads import GRID, WORKLOADS, Workload
from sparsenet.backend import to_device
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.nn import SparseConv
from sparsenet.sparse import SparseTensor, prepare

SECTION = "convolution"
GOALS = {"forward": 3.0, "backward": 2.0, "first call": 3.0}  # the fastest correct peer's time over ours
GPU_GOALS = {"forward": 1.3, "backward": 1.3}  # spconv's time over ours
FLOOR_GOAL = ("submanifold 3^3, surface", 1.2)
_SGEMM_ROWS = 20_000


def measure_convolution(results: Results, settings: Settings) -> None:
    """Add the section "convolution": milliseconds of each pass, and ratios to peers and sgemm."""
    with ExitStack() as stack:
        running = [stack.enter_context(peer) for peer in peers.available(settings.peers, results.notes.append,
                                                                       settings.device)]
        for workload in WORKLOADS:
            _measure(workload, running, results, settings)


def _measure(workload: Workload, running: list[peers.Peer], results: Results, settings: Settings) -> None:
    task = _Task(workload, settings.device)
    expected = task.verify()
    results.add(SECTION, workload.name, "outputs", task.oracle.output_keys.size)
    results.add(SECTION, workload.name, "pairs", task.oracle.pair_count)
    cases = task.cases()
    if settings.device == "cpu":
        cases["sgemm"] = _sgemm_alone(task)
    correct = []
    for peer in running:
        if _is_correct(peer, task, expected, results):
            correct.append(peer.name)
            names = ("forward", "backward", "first call") if peer.name == "spconv" else ("forward", "backward")
            cases |= {f"{name}, {peer.name}": peer.case(name) for name in names}
    times = interleave(cases, settings)
    threads = get_num_threads()
    if settings.device == "cpu" and threads > 1:
        set_num_threads(1)
        try:
            alone = interleave({name: cases[name] for name in ("forward", "backward")}, settings)
        finally:
            set_num_threads(threads)
        times |= {f"{name}, 1 thread": timing for name, timing in alone.items()}
    for name, timing in times.items():
        results.add(SECTION, workload.name, name, 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
    if settings.device == "cuda":
        _add_gpu_ratios(workload, times, correct, results)
    else:
        _add_ratios(workload, times, correct, results)


def _add_gpu_ratios(workload: Workload, times: dict[str, Timing], correct: list[str], results: Results) -> None:
    """Compare with each peer separately: torch uses the dense grid, which a GPU handles unlike a CPU."""
    for peer in correct:
        for name in GPU_GOALS:
            theirs, ours = times[f"{name}, {peer}"], times[name]
            results.add(SECTION, workload.name, f"{name}, {peer} / ours", theirs.median / ours.median, "x",
                        spread=max(theirs.spread, ours.spread), better="higher",
                        goal=GPU_GOALS[name] if peer == "spconv" else None)


def _add_ratios(workload: Workload, times: dict[str, Timing], correct: list[str], results: Results) -> None:
    for name, goal in GOALS.items():
        rivals = [times[key] for peer in correct if (key := f"{name}, {peer}") in times]
        if rivals:
            fastest = min(rivals, key=lambda timing: timing.median)
            results.add(SECTION, workload.name, f"{name}, peer / ours", fastest.median / times[name].median, "x",
                        spread=max(fastest.spread, times[name].spread), better="higher", goal=goal)
    if "sgemm" in times:
        goal = FLOOR_GOAL[1] if workload.name == FLOOR_GOAL[0] else None
        for name, share in (("forward", 1), ("backward", 2)):
            results.add(SECTION, workload.name, f"{name} / sgemm", times[name].median / (share * times["sgemm"].median),
                        "x", spread=times[name].spread, better="lower", goal=goal)
    for name in ("forward", "backward"):
        if f"{name}, 1 thread" in times:
            results.add(SECTION, workload.name, f"{name}, 1 thread / all",
                        times[f"{name}, 1 thread"].median / times[name].median, "x", spread=times[name].spread,
                        better="higher")


def _is_correct(peer: peers.Peer, task: _Task, expected: dict[str, np.ndarray], results: Results) -> bool:
    """Whether the peer's forward pass and gradients match the reference; if not, a note is added."""
    workload, geometry = task.workload, task.oracle.geometry
    try:
        got = peer.set_up("convolution", {**task.given, "gradient": task.gradient, "grid": np.array(GRID),
                                          "output_coordinates": task.oracle.output_coordinates},
                          size=workload.size, stride=workload.stride, padding=geometry.padding[0],
                          submanifold=workload.submanifold)
    except peers.PeerError as error:
        results.notes.append(f"{peer.label}, {workload.name}: left out: {error}")
        return False
    order = np.lexsort(got["output_coordinates"].T[::-1])
    errors = [reference.relative_error(got["output_coordinates"][order], task.oracle.output_coordinates),
              reference.relative_error(got["output"][order], expected["output"]),
              *(reference.relative_error(got[name], expected[name]) for name in ("input_gradient", "weight_gradient"))]
    if not max(errors) <= reference.TOLERANCE:
        results.notes.append(f"{peer.label}, {workload.name}: wrong by {max(errors):.2g} of the largest value: "
                             "left out of the ratios")
        return False
    return True


class _Task:
    """A workload's arrays, layer and reference, on a device."""

    def __init__(self, workload: Workload, device: str):
        self.workload, self.device = workload, device
        self.given = workload.arrays()
        self.layer: SparseConv = workload.layer(self.given["weight"])
        self.oracle = reference.Convolution(self.given["coordinates"], GRID, self.layer.geometry)
        rng = np.random.default_rng(2)
        rows = self.oracle.output_keys.size, self.given["weight"].shape[2]
        self.gradient = rng.standard_normal(rows, np.float32)
        self.layer.to(device)
        self.coordinates, self.features, self.upstream = (
            to_device(array, device) for array in (self.given["coordinates"], self.given["features"], self.gradient))
        self.x = self.tensor()

    def tensor(self) -> SparseTensor:
        x = SparseTensor(self.features, self.coordinates, GRID, 1)
        x.features.requires_grad = True
        return x

    def verify(self) -> dict[str, np.ndarray]:
        """Check all passes against the loop over offsets, and return its result."""
        expected = {"output": self.oracle.forward(self.given["features"], self.given["weight"]),
                    "input_gradient": self.oracle.input_gradient(self.gradient, self.given["weight"]),
                    "weight_gradient": self.oracle.weight_gradient(self.given["features"], self.gradient)}
        y = self.layer(self.x)
        self.backward(y)
        name = self.workload.name
        coordinates = to_device(y.coordinates, "cpu")
        reference.check(f"{name}: output sites", coordinates, self.oracle.output_coordinates, 0.0)
        reference.check(f"{name}: forward", y.features.numpy(), expected["output"])
        for what, array in (("input_gradient", self.x.features.grad), ("weight_gradient", self.layer.weight.grad)):
            reference.check(f"{name}: {what}", to_device(array, "cpu"), expected[what])
        return expected

    def cases(self) -> dict[str, Case]:
        passes = {
            "forward": (lambda: self.layer(self.x), None),
            "backward": (self.backward, self.fresh),
            "input gradient": (self.backward, lambda: self.fresh(weight=False)),
            "weight gradient": (self.backward, lambda: self.fresh(features=False)),
            "first call": (lambda: self.layer(self.tensor()), None),
            "rulebook": (self.rulebook, self.tensor),
        }
        return {name: case(run, prepare, self.device) for name, (run, prepare) in passes.items()}

    def fresh(self, features: bool = True, weight: bool = True) -> SparseTensor:
        """An output whose graph leads to the features, the weights, or both."""
        tensor = self.layer.weight
        tensor.grad, tensor.requires_grad = None, weight
        x = inner(self.x.features) if features else self.x.features.detach()
        y = self.layer(self.x.with_features(x, self.x.background))
        tensor.requires_grad = True
        return y

    def backward(self, y: SparseTensor) -> None:
        y.features.backward(self.upstream)

    def rulebook(self, x: SparseTensor) -> Any:
        """Build the rulebook data that forward reads, for sites without a rulebook."""
        prepare(x.sites, [self.layer.geometry])
        return x.sites


def _sgemm_alone(task: _Task) -> Case:
    """The multiply-adds of the pairs as plain products (20000, 32) x (32, 64) plus a remainder, without gathering
    or accumulation."""
    weight = task.given["weight"][0]
    pairs = task.oracle.pair_count
    a = np.ones((_SGEMM_ROWS, weight.shape[0]), np.float32)
    out = np.empty((_SGEMM_ROWS, weight.shape[1]), np.float32)
    sizes = [_SGEMM_ROWS] * (pairs // _SGEMM_ROWS) + [pairs % _SGEMM_ROWS]

    def run() -> None:
        for rows in sizes:
            machine.product(a[:rows], weight, out[:rows])

    return case(run)
