"""One training step of S3DCNN or another classifier, to be timed, profiled and measured by `training.py`."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.timing import stopwatch
from sparsenet import ops
from sparsenet.backend import cupy, to_device
from sparsenet.data import SparseBatch
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.kernels.counting import Counts, counting
from sparsenet.nn import SparseConv, SparseNetwork, s3dcnn
from sparsenet.optim import SGD
from sparsenet.sparse import SparseTensor, prepare

CLASSES = 40
PHASES = ("forward", "backward", "update")
IN_A_ROW = 8
CHANNELS_OF_QUICK = (4,) * 6


class Steps:
    """S3DCNN with a classifier, or another network, and the paper's SGD, repeatedly trained on one batch.

    Each step starts with rulebooks as built by the training loader.

    quick : use few channels of S3DCNN on the device "cuda"
    net : gives logits of CLASSES classes; None: S3DCNN
    """

    def __init__(self, batch: SparseBatch, device: str, quick: bool = False, net: SparseNetwork | None = None):
        few = {"channels": CHANNELS_OF_QUICK} if quick and device == "cuda" else {}
        self.net: SparseNetwork = (s3dcnn(CLASSES, **few) if net is None else net).to(device)
        self.optimizer = SGD(self.net.named_parameters(), 2e-3, 0.9, 0.9, nesterov=True)
        self.device = device
        self.geometries = self.net.geometries()
        self.sites = batch.input.sites.to(device)
        self.features = to_device(batch.input.features.array, device)
        self.labels = np.maximum(batch.labels, 0) % CLASSES  # on the host, so that checks do not wait
        self.phases: dict[str, list[float]] = {phase: [] for phase in PHASES}

    def fresh(self) -> SparseTensor:
        """The input without rulebooks."""
        return SparseTensor.from_sites(self.features, self.sites.copy())

    def prepared(self) -> SparseTensor:
        """The input as delivered by a loader."""
        x = self.fresh()
        prepare(x.sites, self.geometries, backward=True)
        return x

    def loss(self, x: SparseTensor) -> Any:
        return ops.softmax_cross_entropy(self.net(x), self.labels)

    def step(self, x: SparseTensor, profile: Any = None) -> None:
        """Run forward, backward and update; the seconds of each are appended to `phases`."""
        state: dict[str, Any] = {}
        parts = {"forward": lambda: state.update(loss=self.loss(x)), "backward": lambda: state["loss"].backward(),
                 "update": self.update}
        for phase, part in parts.items():
            if profile is not None:
                profile.phase = phase
            with stopwatch(self.device) as watch:
                part()
            self.phases[phase].append(watch.seconds)

    def plain(self, x: SparseTensor) -> None:
        """The same without timing, so that the host does not wait for a GPU."""
        self.loss(x).backward()
        self.update()

    def take(self, batch: SparseBatch) -> None:
        """A step on a batch from a loader."""
        self.labels = np.maximum(batch.labels, 0) % CLASSES
        if self.device == "cpu":
            self.step(batch.input)
        else:
            self.plain(batch.input)

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def case(self) -> float:
        """Seconds of one step (a case of `timing.interleave`)."""
        x = self.prepared()
        self.step(x)
        return sum(seconds[-1] for seconds in self.phases.values())

    def in_a_row(self) -> float:
        """Seconds per step for several consecutive steps on prepared batches: the host prepares launches while
        the GPU works."""
        inputs = [self.prepared() for _ in range(IN_A_ROW)]
        with stopwatch(self.device) as watch:
            while inputs:
                self.plain(inputs.pop())
        return watch.seconds / IN_A_ROW

    def counted(self) -> tuple[Counts, Counts]:
        """Launches and waits of the rulebooks and of a step."""
        with counting() as before:
            x = self.prepared()
        with counting() as within:
            self.plain(x)
        return before, within

    def whole(self) -> float:
        """Total seconds of rulebooks, forward and backward."""
        x = self.fresh()
        with stopwatch(self.device) as watch:
            prepare(x.sites, self.geometries, backward=True)
            self.loss(x).backward()
        self.optimizer.zero_grad()
        return watch.seconds

    def rulebooks(self) -> float:
        """Seconds of the rulebooks that the loader builds in advance."""
        x = self.fresh()
        with stopwatch(self.device) as watch:
            prepare(x.sites, self.geometries, backward=True)
        return watch.seconds

    def medians(self, rounds: int) -> dict[str, float]:
        """Timing of each phase over its last `rounds`."""
        return {phase: float(np.median(seconds[-rounds:])) for phase, seconds in self.phases.items()}


def convolution_work(steps: Steps) -> tuple[int, int]:
    """Multiply-adds of the convolutions' forward pass for the batch, on active sites and on the dense grid."""
    sparse = dense = 0
    sites = steps.sites.copy()
    for layer in steps.net.layers:
        if not hasattr(layer, "geometry"):
            continue
        rulebook = sites.rulebook(layer.geometry)
        sites = rulebook.output_sites
        if isinstance(layer, SparseConv):
            _, c_in, c_out = layer.weight.shape
            sparse += rulebook.pair_count * c_in * c_out
            dense += sites.batch_size * sites.cells * layer.geometry.volume * c_in * c_out
    return sparse, dense


def step_work(steps: Steps) -> int:
    """Multiply-adds of the convolutions in a step: forward, weight gradient and, except in the first one, input
    gradient."""
    forward, _ = convolution_work(steps)
    first = next(layer for layer in steps.net.layers if isinstance(layer, SparseConv))
    _, c_in, c_out = first.weight.shape
    return 3 * forward - steps.sites.rulebook(first.geometry).pair_count * c_in * c_out


def traced_memory(steps: Steps) -> dict[str, int]:
    """Bytes allocated in one training step, measured by tracemalloc.

    outputs : sum of all layers' output features, as in a network without a backward pass
    live : held after forward, all activations needed by backward
    peak : maximum at any moment of the step
    rulebooks : neighbours and sites made earlier by the loader
    """
    steps.case()  # allocates the threads' scratch memory and the velocities
    outputs = sum(_bytes(record.output) for record in steps.net.activations(steps.prepared()))
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        x = steps.prepared()
        base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        loss = steps.loss(x)
        live = tracemalloc.get_traced_memory()[0] - base
        loss.backward()
        steps.update()
        peak = tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()
    return {"outputs": outputs, "live": live, "peak": peak, "rulebooks": base - before}


def peak_bytes(function: Callable[[], object]) -> int:
    """The most bytes that `function()` holds at any moment, by tracemalloc, with the threads' scratch memory: it runs
    on a new thread, and kernels on new ones."""
    set_num_threads(get_num_threads())
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with ThreadPoolExecutor(1) as thread:
            thread.submit(function).result()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def _bytes(output: Any) -> int:
    features = getattr(output, "features", output)
    return features.array.nbytes


def epoch_rate(steps: Steps, batches: Any) -> tuple[float, float]:
    """(samples per second, share of time waiting for the loader) of an epoch, without its first batch, which
    includes the start of the workers."""
    waited, samples = 0.0, 0
    with batches:
        steps.take(next(batches))
        begun = mark = time.perf_counter()
        for batch in batches:
            waited += time.perf_counter() - mark
            steps.take(batch)
            samples += len(batch)
            mark = time.perf_counter()
        if steps.device == "cuda":  # the GPU may still be working
            cupy().cuda.Device().synchronize()
            mark = time.perf_counter()
    seconds = mark - begun
    if not samples:
        raise ValueError("benchmark: the epoch has one batch, expected two or more: use more shapes")
    return samples / seconds, waited / seconds
