"""Start-up: the time of a new process to its first batch and first step, with Numba's cache warm and cold.

Each run is a separate process.  The cold one starts with an empty cache folder, the warm ones with the folder
that the cold one filled, like a user's second run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import sparsenet
from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.timing import Settings, Timing

SECTION, COMPILING = "start-up", "start-up, compiling"
CHILD = Path(__file__).with_name("startup_child.py")
GOALS = {("warm", "import + first batch"): 3.0, ("cold", "all"): 25.0}
_SLOWEST = 8  # functions listed by their compile time


def measure_startup(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Add the section: seconds to the import, first batch and first step, and the slowest compilations."""
    batch, size = (4, 20) if settings.quick else (64, 40)
    with tempfile.TemporaryDirectory() as cache:
        def run() -> dict:
            return _child(cache, str(shapes.meshes.path), batch, size)

        runs = {"cold": [run()], "warm": [run() for _ in range(1 if settings.quick else 5)]}
    for state, found in runs.items():
        for name in ("import", "import + first batch", "all"):
            times = Timing(tuple(one[name] for one in found))
            results.add(SECTION, f"{state} cache", name, times.median, "s", spread=times.spread, better="lower",
                        goal=GOALS.get((state, name)))
    compiled = sorted(runs["cold"][0]["compiled"].items(), key=lambda item: -item[1])
    results.add(SECTION, "cold cache", "functions compiled", len(compiled))
    for name, seconds in compiled[:_SLOWEST]:
        results.add(COMPILING, name, "slowest", seconds, "s", better="lower")


def _child(cache: str, dataset: str, batch: int, size: int) -> dict:
    root = str(Path(sparsenet.__file__).parents[1])  # the package imported by this process
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, str(CHILD), dataset, str(batch), str(size)], env=environment,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"benchmark: the start-up process failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)
