"""Medians of interleaved repeats.

Compared cases are interleaved: a round runs each of them once, every other round in reverse order.  A temporary
slowdown of the machine then affects all of them, and their ratio stays the same.

On a GPU times come from GPU events, and the GPU is kept busy while the host prepares launches: a case then takes the
GPU's time, not Python's, unless it waits for a result.  Cases that wait, and whole training steps, include the host's
time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet import backend
from sparsenet.autograd import Function, Tensor

Case = Callable[[], float]  # runs once and returns seconds


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    repeats : rounds of each group of cases
    seconds : a group ends early after this time, but not before 3 rounds (1 if `repeats` is less)
    quick : small batches and few sizes, to check that everything runs; the figures are meaningless
    device : "cpu" or "cuda"
    peers : the Python interpreter with the peers; None: no peers
    carried : folder of packed shapes (see `carried`), or None
    """

    repeats: int = 11
    seconds: float = 40.0
    quick: bool = False
    device: str = "cpu"
    peers: str | None = None
    carried: Path | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of several repeats."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.samples))

    @property
    def best(self) -> float:
        return min(self.samples)

    @property
    def spread(self) -> float:
        """Interquartile range over median."""
        low, high = np.percentile(self.samples, (25, 75))
        return float((high - low) / self.median) if self.median else 0.0


def interleave(cases: Mapping[str, Case], settings: Settings) -> dict[str, Timing]:
    """Run each case once untimed, then in rounds, with the garbage collector disabled."""
    for case in cases.values():
        case()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    begun = time.perf_counter()
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(settings.repeats):
            if turn >= 3 and time.perf_counter() - begun > settings.seconds:
                break
            for name in list(cases) if turn % 2 == 0 else reversed(list(cases)):
                taken[name].append(cases[name]())
    finally:
        if enabled:
            gc.enable()
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}


def case(function: Callable, prepare: Callable | None = None, device: str = "cpu") -> Case:
    """A case that times `function()`, or `function(prepare())` without the preparation."""

    def run() -> float:
        given = () if prepare is None else (prepare(),)
        with stopwatch(device, covered=True) as watch:
            kept = function(*given)  # noqa: F841 (freed after the clock has stopped)
        return watch.seconds

    return run


class _Inner(Function):
    """A leaf with the same array, where the gradient ends."""

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, gradient: Any) -> None:
        return None


def inner(tensor: Tensor) -> Tensor:
    """The tensor as an intermediate one of a network: backward computes its gradient and passes it on, without
    copying it to `.grad` as for a leaf."""
    return _Inner().apply(tensor)


class stopwatch:
    """`with stopwatch(device) as watch:` ... `watch.seconds`; on a GPU measured by events.

    covered : keep the GPU busy beforehand, so that host time is not measured
    """

    def __init__(self, device: str = "cpu", covered: bool = False):
        self.cuda = backend.cupy().cuda if device == "cuda" else None
        self.covered = covered
        self.seconds = 0.0

    def __enter__(self) -> stopwatch:
        if self.cuda is None:
            self._begun = time.perf_counter()
        else:
            self._events = [self.cuda.Event(), self.cuda.Event()]
            self.cuda.Device().synchronize()
            if self.covered:
                _cover()
            self._events[0].record()
        return self

    def __exit__(self, *error: object) -> None:
        if self.cuda is None:
            self.seconds = time.perf_counter() - self._begun
        else:
            self._events[1].record()
            self._events[1].synchronize()
            self.seconds = self.cuda.get_elapsed_time(*self._events) / 1e3


COVER_SIDE, COVER_PRODUCTS = 4096, 4  # about 10 ms on a large GPU, more than any case takes to launch
_SIDE_OF_QUICK = 8
_covers: dict[int, Any] = {}
_side = COVER_SIDE


@contextmanager
def covers(quick: bool) -> Iterator[None]:
    """A context in which the GPU is kept busy before each case, or only briefly in quick runs."""
    global _side
    before, _side = _side, _SIDE_OF_QUICK if quick else COVER_SIDE
    try:
        yield
    finally:
        _side = before


def _cover() -> None:
    """Work for the GPU that is not waited for."""
    xp = backend.cupy()
    if _side not in _covers:
        _covers[_side] = [xp.ones((_side, _side), np.float32) for _ in range(2)]
    a, out = _covers[_side]
    for _ in range(COVER_PRODUCTS):
        xp.matmul(a, a, out=out)
