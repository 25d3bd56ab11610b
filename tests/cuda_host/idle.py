"""S3DCNN's training step on a driver that launches nothing: what is left is the host's time.

    python tests/cuda_host/idle.py [--against CHECKOUT ...] [--rounds 5]

Counted is a step on the paper's batch, 64 parametric shapes at render size 40: it asks for what it would ask of a GPU.
Timed is one of few channels on a few small shapes, where the arithmetic of CuPy's stand-in is nothing beside its calls.
Other checkouts take turns with this one, each in a process of its own.  Times are the processor's, which other
processes do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]

from cuda_host import cupy_of_numpy

from sparsenet import ops
from sparsenet.backend import to_device
from sparsenet.kernels import counting
from sparsenet.nn import s3dcnn
from sparsenet.nn.architectures import CHANNELS
from sparsenet.optim import SGD
from sparsenet.random import keyed_rng
from sparsenet.shapes import CLASSES, Augmentation, MeshBatch, parametric_mesh
from sparsenet.sparse import ActiveSites, SparseTensor, prepare
from sparsenet.sparse.plan import main_path

PAPER = (64, 40)  # batch, render size
SMALL = (4, 5)
FEW = (8,) * 6  # channels
STEPS = 100  # of a round
PHASES = ("forward", "backward", "update")


class Idle:
    """Launches nothing."""

    ndarray = cupy_of_numpy.DeviceArray
    wanted = "an array of the stand-in for CuPy"

    def address(self, array: Any, *named: str) -> int:
        return id(array) << 24  # as far from any other as arrays are

    def compile(self, kernel: Any) -> Callable:
        return lambda *launch: None


def prepared_sites(batch: int, render_size: int) -> ActiveSites:
    """Parametric shapes on the CPU, with rulebooks."""
    meshes = [parametric_mesh(CLASSES[number % len(CLASSES)], keyed_rng(number)) for number in range(batch)]
    placements = [Augmentation("so3").draw(keyed_rng(1, number), render_size) for number in range(batch)]
    sites, _ = MeshBatch(meshes).voxelize(126, render_size, placements)
    prepare(sites, s3dcnn().geometries())
    return sites


def _on_device(sites: ActiveSites) -> ActiveSites:
    there = sites.to("cuda")
    there.coordinates = to_device(sites.coordinates, "cuda")
    return there


def moved(sites: ActiveSites) -> ActiveSites:
    """The sites on the device, with the rulebooks that a loader of training builds."""
    first = here = _on_device(sites)
    for number, geometry in enumerate(main_path(s3dcnn().geometries())):
        before, rulebook = sites.rulebook(geometry), here.rulebook(geometry)
        sites = before.output_sites
        vars(rulebook)["_output_sites"] = here = _on_device(sites)
        vars(rulebook)["neighbours"] = to_device(before.neighbours, "cuda")
        if number:
            vars(rulebook)["transposed_neighbours"] = to_device(before.transposed_neighbours, "cuda")
    return first


@contextmanager
def training(sites: ActiveSites, channels: Sequence[int] = CHANNELS,
             seconds: dict[str, list[float]] | None = None) -> Iterator[Callable[[], None]]:
    """A context that yields a function which runs one training step of S3DCNN; a first step has run.

    seconds : takes those of each phase
    """
    with cupy_of_numpy.installed(Idle()), np.errstate(all="ignore"):
        net = s3dcnn(40, channels=channels).to("cuda")
        optimizer = SGD(net.named_parameters(), 2e-3, 0.9, 0.9, nesterov=True)
        labels = np.arange(sites.batch_size) % 40  # on the host, as a loader gives them
        there, ones = moved(sites), to_device(np.ones((len(sites), 1), np.float32), "cuda")
        taken = {phase: [] for phase in PHASES} if seconds is None else seconds

        def train() -> None:
            marks = [time.perf_counter()]
            loss = ops.softmax_cross_entropy(net(SparseTensor.from_sites(ones, there)), labels)
            marks.append(time.perf_counter())
            loss.backward()
            marks.append(time.perf_counter())
            optimizer.step()
            optimizer.zero_grad()
            marks.append(time.perf_counter())
            for phase, begun, ended in zip(PHASES, marks[:-1], marks[1:], strict=True):
                taken.setdefault(phase, []).append(ended - begun)

        train()
        for tensor in net.parameters():  # as training leaves them
            tensor.array[...] = 0.5
        yield train


def asked(function: Callable[[], None]) -> tuple[Counter, Counter, int]:
    """The launches of our kernels and of CuPy's, by name, and the number of waits."""
    cupy_of_numpy.operations().clear()
    before = cupy_of_numpy.waits()
    with counting() as counts:
        function()
    return counts.launches, Counter(cupy_of_numpy.operations()), cupy_of_numpy.waits() - before


def _serve() -> None:
    """Answer each line on stdin with the milliseconds of the phases of a step: the processor's time of many, shared
    out by the clock."""
    with training(prepared_sites(*PAPER)) as step:
        ours, cupys, _ = asked(step)
    seconds: dict[str, list[float]] = {}
    with training(prepared_sites(*SMALL), FEW, seconds) as step:
        print(json.dumps({"ours": ours, "cupys": cupys}), flush=True)
        for _ in sys.stdin:
            for taken in seconds.values():
                taken.clear()
            begun = time.thread_time()
            for _ in range(STEPS):
                step()
            whole = 1e3 * (time.thread_time() - begun) / STEPS
            shares = {phase: statistics.median(taken) for phase, taken in seconds.items()}
            print(json.dumps({phase: whole * share / sum(shares.values()) for phase, share in shares.items()}),
                  flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", nargs="*", default=[], metavar="CHECKOUT", help="take turns with these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve()
        return
    here = Path(__file__).parents[2]
    children = {}
    for root in [*map(Path, options.against), here]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(here / "tests")])}
        children[root] = subprocess.Popen([sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, text=True,
                                          stdout=subprocess.PIPE, env=environment)
    try:
        asked_of = {root: json.loads(child.stdout.readline()) for root, child in children.items()}
        found: dict[Path, list[dict[str, float]]] = {root: [] for root in children}
        for _ in range(options.rounds):
            for root, child in children.items():
                print("go", file=child.stdin, flush=True)
                found[root].append(json.loads(child.stdout.readline()))
        for root, rounds in found.items():
            ours, cupys = (asked_of[root][which] for which in ("ours", "cupys"))
            medians = {phase: statistics.median(one[phase] for one in rounds) for phase in PHASES}
            print(f"{root.name}: {sum(ours.values())} launches of ours, {sum(cupys.values())} operations of CuPy's, "
                  f"{sum(medians.values()):.2f} ms of the host a step: "
                  + ", ".join(f"{phase} {value:.2f}" for phase, value in medians.items()))
            print(f"    ours: {ours}\n    CuPy's: {cupys}")
    finally:
        for child in children.values():
            child.stdin.close()
            child.wait()


if __name__ == "__main__":
    main()
