"""Profile of a training step: GPU time by kernel, host time by function."""

from __future__ import annotations

import cProfile
import pstats
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.steps import Steps
from benchmarks.timing import Settings
from sparsenet.backend import cupy
from sparsenet.kernels.cuda.source import CudaKernel

SECTION = "S3DCNN profile"
_STEPS = 5
_FUNCTIONS, _KERNELS = 12, 12  # the most expensive ones shown


def measure_profile(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section, for a batch of 64 at render size 40: milliseconds of one step on the GPU by kernel of ours
    (with events around each, so more than in a normal step) and on the host by function, without and with callees."""
    size = 4 if settings.quick else 40
    steps = Steps(shapes.batch(1 if settings.quick else 64, size), "cuda", settings.quick)
    count = 1 if settings.quick else _STEPS
    steps.plain(steps.prepared())
    inputs = [steps.prepared() for _ in range(2 * count)]
    with timed_kernels() as taken:
        for _ in range(count):
            steps.plain(inputs.pop())
    case = f"{shapes.source}, render {size}: GPU"
    milliseconds = {name: sum(cupy().cuda.get_elapsed_time(*pair) for pair in pairs) / count
                    for name, pairs in taken().items()}
    for name, value in Counter(milliseconds).most_common(_KERNELS):
        results.add(SECTION, case, name, value, "ms", better="lower")
    results.add(SECTION, case, "all kernels of ours", sum(milliseconds.values()), "ms", better="lower")
    cupy().cuda.Device().synchronize()
    profile = cProfile.Profile()
    with profile:
        for _ in range(count):
            steps.plain(inputs.pop())
    _add_functions(results, profile, f"{shapes.source}, render {size}: host", count)


@contextmanager
def timed_kernels() -> Iterator[Any]:
    """A context in which each of our launches is enclosed by two events.  Yields a function that waits for them and
    returns the pairs of events by kernel."""
    cuda, plain = cupy().cuda, CudaKernel.__call__
    taken: dict[str, list[tuple[Any, Any]]] = {}

    def call(kernel: CudaKernel, *arguments: Any, **options: Any) -> None:
        begin, end = cuda.Event(), cuda.Event()
        begin.record()
        plain(kernel, *arguments, **options)
        end.record()
        taken.setdefault(kernel.name, []).append((begin, end))

    def give() -> dict[str, list[tuple[Any, Any]]]:
        cuda.Device().synchronize()
        return taken

    CudaKernel.__call__ = call
    try:
        yield give
    finally:
        CudaKernel.__call__ = plain


def _add_functions(results: Results, profile: cProfile.Profile, case: str, count: int) -> None:
    """Add the functions with the largest own time."""
    stats = pstats.Stats(profile).stats
    results.add(SECTION, case, "all", 1e3 * sum(own for _, _, own, _, _ in stats.values()) / count, "ms",
                better="lower")
    found: dict[str, np.ndarray] = {}
    for (path, _, name), (_, calls, own, whole, _) in stats.items():
        place = f"{Path(path).stem}.{name}" if path != "~" else name
        found[place] = found.get(place, np.zeros(3)) + (calls / count, 1e3 * own / count, 1e3 * whole / count)
    for place, (calls, own, whole) in sorted(found.items(), key=lambda one: -one[1][1])[:_FUNCTIONS]:
        results.add(SECTION, f"{case}: {place}", "calls", calls)
        results.add(SECTION, f"{case}: {place}", "own", own, "ms", better="lower")
        results.add(SECTION, f"{case}: {place}", "with what it calls", whole, "ms", better="lower")
