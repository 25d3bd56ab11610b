"""How long `sparsenet search FOLDER` takes on ten thousand meshes: the first run, interrupted once, and later runs.

    python -m benchmarks.search_folder
    python -m benchmarks.search_folder --meshes 500 --runs 3

It makes a folder of parametric shapes, nested two deep, in a temporary folder (or in --folder, which is kept and used
again), and a cache of its own.  The first run is interrupted once, as by Ctrl-C, and resumed: what was embedded before
is not embedded again.  A query is a mesh of the folder and must find itself first, at distance 0.  Then it says where a
later run spends its time.
"""

from __future__ import annotations

import argparse
import os
import pstats
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import sparsenet
from sparsenet.info import processor_name
from sparsenet.quickstart import write_off
from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, parametric_mesh

IN_A_FOLDER = 100  # meshes
# What a later run does -> the function that does it, of which the profile has the time
PARTS = {
    "load the model": ("pretrained.py", "load_pretrained"),
    "list the folder": ("folder.py", "mesh_files"),
    "read the descriptors kept": ("folder.py", "_load"),
    "embed the query": ("folder.py", "describe"),
    "rank": ("index.py", "search"),
    "tell the query's class": ("classification.py", "classify"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshes", type=int, default=10_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="later runs (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="make the meshes here and keep them (default: a temporary folder)")
    parser.add_argument("--model", default="modelnet40", help="a model's name, or a checkpoint (default: %(default)s)")
    args = parser.parse_args()
    with ExitStack() as stack:
        root = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = make_meshes(root, args.meshes)
        words = ["search", str(root), str(root / names[len(names) // 2]), "--model", args.model]
        print(f"{processor_name()}, {os.cpu_count()} cores, {len(names):,} meshes")
        begun = time.perf_counter()
        before = interrupted(words, cache)
        seconds, embedded = timed(words, cache, names[len(names) // 2])
        whole = time.perf_counter() - begun
        if embedded + before > len(names) or (before and embedded == len(names)):
            raise RuntimeError(f"{before} meshes were embedded before the interruption, and {embedded} after it, of "
                               f"{len(names)}")
        print(f"first run, interrupted once: {whole:.1f} s, {1000 * whole / len(names):.1f} ms a mesh; {before:,} "
              f"meshes were embedded before the interruption, {embedded:,} after it, in {seconds:.1f} s")
        later = []
        for _ in range(args.runs):
            seconds, embedded = timed(words, cache, names[len(names) // 2])
            if embedded:
                raise RuntimeError(f"a later run embedded {embedded} meshes, expected none")
            later.append(seconds)
        print(f"later runs: median {np.median(later):.2f} s, {min(later):.2f} to {max(later):.2f} s\n")
        print(profile(words, cache))


def make_meshes(root: Path, count: int) -> list[str]:
    """Write those that are not there yet; their names, relative to the folder, in its order."""
    names = []
    for number in range(count):
        kind = CLASSES[number % len(CLASSES)]
        name = f"{kind}/{number // len(CLASSES) // IN_A_FOLDER:03}/{kind}_{number:05}.off"
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_off(root / name, parametric_mesh(kind, keyed_rng(15, number)))
        names.append(name)
    return sorted(names)


def environment(cache: Path) -> dict[str, str]:
    root = str(Path(sparsenet.__file__).parents[1])  # the package imported by this process
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return os.environ | {"SPARSENET_CACHE": str(cache), "PYTHONPATH": path}


def command(words: list[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "sparsenet", *words, "-k", "3"]


def interrupted(words: list[str], cache: Path) -> int:
    """Begin a first run and interrupt it after a while; the number of meshes whose descriptors it kept, at least 1."""
    from sparsenet.files import read_hdf5

    for seconds in (15, 30, 60, 120, 240):  # Numba may compile first
        process = subprocess.Popen([*command(words), "--quiet"], env=environment(cache), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        try:
            _, error = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=120)
            if process.returncode != 130:
                raise RuntimeError(f"exit code {process.returncode} after an interruption, expected 130: "
                                   f"{error}") from None
            kept = list(cache.glob("*.h5"))
            if kept:
                return len(read_hdf5(kept[0], {"sparsenet-folder": 2}).texts("names"))
            continue
        if process.returncode:
            raise RuntimeError(f"the first run failed: {error}")
        return 0  # it was done before it could be interrupted
    raise RuntimeError("no mesh was embedded in four minutes")


def timed(words: list[str], cache: Path, expected: str) -> tuple[float, int]:
    """The seconds of a run as a process, and the number of meshes that it embedded; its answer is checked."""
    begun = time.perf_counter()
    done = subprocess.run(command(words), env=environment(cache), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"sparsenet search failed: {done.stderr}")
    rank, name, distance = next(line.split() for line in done.stdout.splitlines() if line.split()[0] == "1")
    if name != expected or float(distance) > 1e-4:
        raise RuntimeError(f"{expected} finds {name} first, at distance {distance}, expected itself at 0")
    return seconds, int(re.search(r", ([\d,]+) embedded now", done.stdout)[1].replace(",", ""))


def profile(words: list[str], cache: Path) -> str:
    """Where a later run spends its time, by a profiler, which slows some parts down more than others."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile"
        subprocess.run([sys.executable, "-P", "-m", "cProfile", "-o", str(path), *command(words)[2:]],
                       env=environment(cache), capture_output=True, check=True)
        return table(pstats.Stats(str(path)))


def table(stats: pstats.Stats) -> str:
    """The seconds of the parts of a later run, with what they import."""
    found = {"all of it": stats.total_tt}
    rows = stats.stats  # type: ignore[attr-defined]
    for part, (file, function) in PARTS.items():
        found[part] = max((row[3] for (path, _, name), row in rows.items()
                           if name == function and Path(path).name == file), default=0.0)
    found["imports, in all parts"] = max((row[3] for (_, _, name), row in rows.items() if name == "_find_and_load"),
                                         default=0.0)
    lines = [f"  {part:28} {seconds:6.2f} s" for part, seconds in sorted(found.items(), key=lambda pair: -pair[1])]
    return "\n".join(["a later run under a profiler:", *lines])


if __name__ == "__main__":
    main()
