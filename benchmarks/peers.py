"""Other packages, timed on the same inputs in the same run, each in a separate process.

torch     dense convolution (oneDNN, cuDNN), on all threads
spconv    on a CPU with one thread: with two its scatter has a race and its results are wrong
triton    a masked implicit product (triton_convolution.py), only on a GPU at a million sites
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from sparsenet.kernels import get_num_threads

WORKER = Path(__file__).with_name("peer_worker.py")
PEERS = ("torch", "spconv")
_CHECKOUT = Path(__file__).resolve().parents[1]
_CALM = 0.005  # seconds: OpenMP threads spin for a while after their last work


class PeerError(RuntimeError):
    """A peer's process ended or could not run a command."""


class Peer:
    """A running peer; close it, or use it as a context manager."""

    def __init__(self, name: str, python: str, device: str = "cpu"):
        self.name, self.device = name, device
        self.threads = 1 if name == "spconv" and device == "cpu" else get_num_threads()
        environment = os.environ | {"PYTHONPATH": paths_of_others(os.environ.get("PYTHONPATH", ""))}
        environment |= {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.errors: IO[str] = stack.enter_context(open(self.folder / "stderr", "w+", encoding="utf-8"))
            command = [python, str(WORKER), name, str(self.threads), device]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                            text=True, env=environment)
            stack.callback(self._end)
            self.versions = self._ask(do="versions")
            self._open = stack.pop_all()

    @property
    def label(self) -> str:
        if self.device == "cuda":
            return f"{self.name} {self.versions[self.name]}"
        return f"{self.name} {self.versions[self.name]}, {self.threads} thread{'s' * (self.threads > 1)}"

    def set_up(self, kind: str, arrays: dict[str, Any], **settings: Any) -> dict[str, np.ndarray]:
        """Send a task, which runs once, and return the arrays that the worker saved."""
        inputs, outputs = (str(self.folder / name) for name in ("inputs.npz", "outputs.npz"))
        np.savez(inputs, **arrays)
        self._ask(do=kind, inputs=inputs, outputs=outputs, **settings)
        with np.load(outputs) as saved:
            return dict(saved)

    def case(self, name: str) -> Callable[[], float]:
        """A case (see `timing`) that runs one pass of the latest task."""

        def run() -> float:
            seconds = self._ask(do="time", **{"pass": name})["seconds"]
            time.sleep(_CALM)
            return seconds

        return run

    def _ask(self, **command: Any) -> dict[str, Any]:
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.process.wait()
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or ["no output"])[-1]
            raise PeerError(f"{self.name} ended: {last}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._open.close()

    def _end(self) -> None:
        try:
            self.process.communicate(timeout=10)  # closes its stdin, which ends it
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def paths_of_others(given: str) -> str:
    """PYTHONPATH without this checkout: a peer finds packages in carried folders, but not this package."""
    own = (_CHECKOUT, _CHECKOUT / "tests")
    kept = [path for path in given.split(os.pathsep) if path and Path(path).resolve() != own[0]
            and own[1] not in Path(path).resolve().parents]
    return os.pathsep.join(kept)


def available(python: str | None, note: Callable[[str], None], device: str = "cpu",
              names: Sequence[str] = PEERS) -> list[Peer]:
    """Start the named peers that the interpreter has, on the device; missing ones are noted."""
    if python is None:
        return []
    found = []
    for name in names:
        try:
            found.append(Peer(name, python, device))
        except (PeerError, OSError) as error:
            note(f"peer {name} left out: {error}")
    return found
