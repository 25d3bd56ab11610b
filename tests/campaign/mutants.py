"""Mutation testing: plant small faults in the sources, and see whether the tests notice them.

    python tests/campaign/mutants.py --count 300 --seed 0 --json survivors.json

A seeded draw takes a third of the mutants from each of three areas: ops and sparse; retrieval, data and training;
kernels (Python, Numba, CUDA).  Each is planted in a copy of the checkout, and the tests that lie nearest run first,
then their area's, then all.  A mutant is killed if a test fails, or does not end in time.  Survivors are named:
each is to be answered by a test, or by the reason why it is no fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from mutations import Mutation, mutations

ROOT = Path(__file__).parents[2]
AREAS = {"engine": ("ops", "sparse"), "data": ("retrieval", "data", "training"), "kernels": ("kernels",)}
NEAR = {"ops": ("ops", "nn"), "sparse": ("sparse", "ops", "nn"), "retrieval": ("retrieval",), "data": ("data",),
        "training": ("training", "cli"), "kernels": ("kernels", "sparse", "cuda")}
SHARED = {"blas", "bits", "lanes", "lanes_joined", "common", "table"}  # compiled into other files' kernels
SECONDS = 1200  # for one run of tests


def draw(areas: list[str], count: int, seed: int) -> list[Mutation]:
    """Evenly from the areas; the same for the same sources, count and seed."""
    drawn = []
    for number, area in enumerate(areas):
        every = [one for part in AREAS[area] for path in sorted((ROOT / "sparsenet" / part).rglob("*"))
                 if path.suffix in (".py", ".cu", ".cuh")
                 for one in mutations(path.relative_to(ROOT), path.read_text(encoding="utf-8"))]
        rng = random.Random(f"{seed} {area}")
        drawn += rng.sample(every, count // len(areas) + (number < count % len(areas)))
    return drawn


def stages(path: Path, quick: bool) -> list[list[str]]:
    """The tests to run, nearest first: those named as the file, its area's, all."""
    part = path.parts[1]
    words = [path.stem]
    if part == "kernels":  # those of the family, too: its tests are named after it or after one of its sources
        words += [path.parts[2]] if len(path.parts) > 3 else []
        words += [source.stem for source in (ROOT / path.parent).glob("*.cu")]
    tests = {test for word in words for test in ROOT.glob(f"tests/{part}/test_*{word}*.py")}
    own = [str(test.relative_to(ROOT)) for test in sorted(tests)]
    area = [f"tests/{one}" for one in NEAR[part] if (ROOT / "tests" / one).is_dir()]
    return [one for one in (own, area, [] if quick else ["tests"]) if one]


class Copy:
    """A copy of the checkout that mutants are planted in."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", "runs"))

    def survives(self, mutant: Mutation, quick: bool) -> bool:
        """Whether all tests pass with the mutant in place."""
        path = self.folder / mutant.path
        text = path.read_text(encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryDirectory() as cold:
            if mutant.path.stem in SHARED:  # Numba looks at a kernel's own file alone
                environment["NUMBA_CACHE_DIR"] = cold
            path.write_text(mutant.apply(text), encoding="utf-8")
            try:
                return all(self._pass(tests, environment) for tests in stages(mutant.path, quick))
            finally:
                path.write_text(text, encoding="utf-8")

    def _pass(self, tests: list[str], environment: dict[str, str]) -> bool:
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, timeout=SECONDS,
                                  check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode in (0, 5)  # 5: no test was collected


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--area", choices=AREAS, action="append", help="only this one (default: all three)")
    parser.add_argument("--quick", action="store_true", help="leave out the run of all tests: more survive")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the survivors to this file")
    arguments = parser.parse_args()
    drawn = draw(arguments.area or list(AREAS), arguments.count, arguments.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.workers) as pool:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(arguments.workers):
            copies.put(Copy(Path(folder) / str(number)))

        def judge(mutant: Mutation) -> bool:
            copy = copies.get()
            try:
                survived = copy.survives(mutant, arguments.quick)
            finally:
                copies.put(copy)
            print("survived" if survived else "killed  ", mutant, flush=True)
            return survived

        survivors = [mutant for mutant, survived in zip(drawn, pool.map(judge, drawn), strict=True) if survived]
    for area in arguments.area or AREAS:
        total = sum(mutant.path.parts[1] in AREAS[area] for mutant in drawn)
        left = sum(mutant.path.parts[1] in AREAS[area] for mutant in survivors)
        print(f"mutants of {area}: {total - left} of {total} killed ({100 * (total - left) / max(total, 1):.1f}%)")
    if arguments.json:
        arguments.json.write_text(json.dumps([str(mutant) for mutant in survivors], indent=1) + "\n", encoding="utf-8")
    minutes = (time.monotonic() - begun) / 60
    print(f"mutants: {len(drawn) - len(survivors)} of {len(drawn)} killed in {minutes:.0f} minutes")
    return int(len(survivors) > len(drawn) // 20)


if __name__ == "__main__":
    sys.exit(main())
