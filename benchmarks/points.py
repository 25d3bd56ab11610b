"""Points into cells and back: `from_points` beside a sort of its keys, `at_points` in points a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import reference
from benchmarks.figures import Results
from benchmarks.timing import Settings, case, interleave
from sparsenet import ops
from sparsenet.backend import array_module, to_device
from sparsenet.kernels import launch
from sparsenet.sparse import SparseTensor

SECTION = "points"
GOAL = 1.5  # times argsort of the keys
CHANNELS = (3, 32)
_SIDE, _RADIUS = 256, 100.0  # cells; of a sphere, on which and within a cell of which the points lie


def measure_points(results: Results, settings: Settings) -> None:
    """Add the section: a million points of a surface, in random order, six for each cell."""
    count = (300 if settings.device == "cuda" else 20_000) if settings.quick else 1_000_000
    rng = np.random.default_rng(8)
    points = rng.standard_normal((count, 3))
    points *= (_RADIUS + rng.uniform(-0.5, 0.5, (count, 1))) / np.linalg.norm(points, axis=1, keepdims=True)
    points = (points + _SIDE / 2).astype(np.float32)
    for channels in CHANNELS:
        _measure(results, settings, points, rng.standard_normal((count, channels), np.float32))


def _measure(results: Results, settings: Settings, points: np.ndarray, features: np.ndarray) -> None:
    device, (count, channels) = settings.device, features.shape
    here, rows = to_device(points, device), to_device(features, device)
    keys = launch("point_keys", here, None, *_grid(here), (_SIDE,) * 3, 1)

    def put(reduce: str = "mean") -> SparseTensor:
        return ops.from_points(here, rows, 1.0, 0.0, (_SIDE,) * 3, reduce=reduce)

    x = put()
    cells, first, sizes = np.unique(to_device(keys, "cpu"), return_inverse=True, return_counts=True)
    total = np.zeros((len(cells), channels))
    np.add.at(total, first, features)
    mean = total / sizes[:, None]
    reference.check("from_points", x.features.numpy(), mean)
    reference.check("at_points", x.at_points(here, 1.0, 0.0).numpy(), mean[first])
    cases = {
        "argsort of the keys": case(lambda: array_module(keys).argsort(keys), None, device),
        "from_points, mean": case(put, None, device),
        "from_points, max": case(lambda: put("max"), None, device),
        "at_points, nearest": case(lambda: x.at_points(here, 1.0, 0.0), None, device),
        "at_points, trilinear": case(lambda: x.at_points(here, 1.0, 0.0, mode="trilinear"), None, device),
    }
    times = interleave(cases, settings)
    name = f"{count:,} points, {channels} channels"
    results.add(SECTION, name, "cells with points", len(cells))
    for what, timing in times.items():
        results.add(SECTION, name, what, 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
    ratio = times["from_points, mean"].median / times["argsort of the keys"].median
    results.add(SECTION, name, "from_points, mean / argsort", ratio, "x", better="lower", goal=GOAL)


def _grid(array: Any) -> tuple[Any, Any]:
    """Origin and size of the voxels."""
    xp = array_module(array)
    return xp.zeros(3), xp.ones(3)
