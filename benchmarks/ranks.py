"""Training steps in shards and on ranks: what cutting a batch costs, and two processes beside two threads.

S3DCNN on 64 shapes: forward, backward and update on prepared batches.  A step of the classifier runs each shard once;
one of a loss that compares samples runs the shards of a process twice, if it has several.  Before anything is timed the
weights after a step on two ranks are compared with those of one process: they must have the same bits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.figures import Results
from benchmarks.shapes import Shapes
from benchmarks.steps import CHANNELS_OF_QUICK
from benchmarks.timing import Settings, interleave
from sparsenet.data import SparseDataset
from sparsenet.files import arrays_digest
from sparsenet.kernels import get_num_threads, set_num_threads
from sparsenet.training.build import build_batching, build_network, build_optimizer
from sparsenet.training.config import parse_config
from sparsenet.training.finetuning import train_mode
from sparsenet.training.losses import Criterion
from sparsenet.training.precision import run_backward
from sparsenet.training.ranks import Ranks
from sparsenet.training.shards import ShardedStep

SECTION = "shards and ranks"
LOSSES = {"softmax": "kind = 'softmax'", "contrastive": "kind = 'terms'\nterms = [{kind = 'contrastive'}]\n"
                                                        "classes_per_batch = 4"}
BATCH, RENDER_SIZE, SHARDS = 64, 40, 4
TEXT = """
[data]
path = "shapes"
render_size = {size}
workers = 0
[network]
channels = {channels}
[training]
batch_size = {batch}
shards = {shards}
[augmentation]
rotation = "none"
affine = 0.0
shift = 0.0
[loss]
{loss}
"""


class Training:
    """Steps of a training on one batch.

    quick : a small batch and few channels
    """

    def __init__(self, dataset: SparseDataset, loss: str, shards: int, quick: bool, ranks: Ranks | None = None):
        batch, size = (8, 20) if quick else (BATCH, RENDER_SIZE)
        config = parse_config(TEXT.format(
            size=size, batch=batch, shards=shards, loss=LOSSES[loss],
            channels=list(CHANNELS_OF_QUICK) if quick else [32, 64, 96, 128, 160, 192]), "benchmark")
        ranks = Ranks(shards=shards) if ranks is None else ranks
        self.net = build_network(config, len(dataset.classes))
        train_mode(self.net)
        self.criterion = Criterion(config, self.net, dataset)
        self.optimizer, _ = build_optimizer(config, self.net, self.criterion)
        with dataset.batches(**build_batching(config, dataset, self.net, ranks.own), epoch=0) as batches:
            self.batch: Any = next(batches)
        self.sharded = ShardedStep(config, self.net, self.criterion, ranks) if shards > 1 else None

    def step(self) -> None:
        if self.sharded is None:
            loss, _ = self.criterion.loss(self.net, self.batch)
            run_backward(loss, 1.0)
        else:
            self.sharded(self.batch, 0, 0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def case(self) -> float:
        """Seconds of one step (a case of `timing.interleave`)."""
        begun = time.perf_counter()
        self.step()
        return time.perf_counter() - begun

    def digest(self) -> str:
        """sha256 of the weights."""
        return arrays_digest(self.net.get_weights())


class TwoRanks(AbstractContextManager):
    """The same training on two ranks, each a process with one thread; they sleep between steps."""

    def __init__(self, launcher: str, path: Path, loss: str, shards: int, quick: bool):
        command = [launcher, "-n", "2", sys.executable, "-m", "benchmarks.ranks_worker", str(path), loss, str(shards),
                   *(["quick"] if quick else [])]
        root = Path(__file__).resolve().parents[1]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
            env={**os.environ, "SPARSENET_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])})

    def ask(self, word: str) -> str:
        """The answer to "step", its seconds, or "digest", that of the weights.

        Raises RuntimeError if the processes have ended.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(word, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline().split()
        except BrokenPipeError:
            answer = []
        if not answer:
            raise RuntimeError(f"benchmark: the processes of mpirun ended with code {self.process.wait()}")
        return answer[0]

    def case(self) -> float:
        return float(self.ask("step"))

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def measure_ranks(results: Results, settings: Settings, shapes: Shapes) -> None:
    """Measure shards on one rank against one batch; then two ranks against two threads, where there is an MPI."""
    threads, dataset, quick = get_num_threads(), shapes.meshes, settings.quick
    results.settings["shapes"] = shapes.source
    for loss in LOSSES:
        cases = {f"{shards}": Training(dataset, loss, shards, quick).case for shards in (1, SHARDS)}
        times = interleave(cases, settings)
        for name, timing in times.items():
            results.add(SECTION, f"{loss}, {_shards(int(name))}, 1 rank", "step", 1e3 * timing.median, "ms",
                        spread=timing.spread, better="lower")
        results.add(SECTION, f"{loss}, {_shards(SHARDS)}, 1 rank", "step / one batch's",
                    times[f"{SHARDS}"].median / times["1"].median, "x", spread=times[f"{SHARDS}"].spread,
                    better="lower")
    launcher = find_launcher()
    if launcher is None:
        results.notes.append("ranks left out: pip install 'sparsenet[mpi]' mpich")
        return
    try:
        set_num_threads(2)
        _measure_two(results, settings, dataset, launcher)
    finally:
        set_num_threads(threads)


def _measure_two(results: Results, settings: Settings, dataset: SparseDataset, launcher: str) -> None:
    for loss in LOSSES:
        with ExitStack() as stack:
            path = Path(dataset.path).resolve()
            ranks = stack.enter_context(TwoRanks(launcher, path, loss, 2, settings.quick))
            here = Training(dataset, loss, 2, settings.quick)
            ranks.case(), here.step()
            if ranks.ask("digest") != here.digest():
                raise RuntimeError(f"benchmark: {loss}: the weights after a step on two ranks differ from those of one")
            whole = Training(dataset, loss, 1, settings.quick)
            times = interleave({"2 ranks": ranks.case, "1 rank of 2 threads": here.case, "one batch": whole.case},
                               settings)
        one = times.pop("one batch")
        for name, timing in times.items():
            case = f"{loss}, {_shards(2)}, {name}"
            results.add(SECTION, case, "step", 1e3 * timing.median, "ms", spread=timing.spread, better="lower")
            results.add(SECTION, case, "step / one batch's on 2 threads", timing.median / one.median, "x",
                        spread=max(timing.spread, one.spread), better="lower")
        ratio = times["2 ranks"].median / times["1 rank of 2 threads"].median
        results.add(SECTION, f"{loss}, {_shards(2)}, 2 ranks", "step / 2 threads'", ratio, "x",
                    spread=max(timing.spread for timing in times.values()), better="lower")


def find_launcher() -> str | None:
    """mpirun, of this environment or else of the system; None if there is none, or no mpi4py."""
    if find_spec("mpi4py") is None:
        return None
    own = Path(sys.executable).parent / "mpirun"
    return str(own) if own.exists() else shutil.which("mpirun")


def _shards(count: int) -> str:
    return f"{count} shard{'s' * (count > 1)}"
