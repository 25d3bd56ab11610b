"""Converts many meshes to one dataset file in parallel processes, keeping the order of the list."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.backend import get_backend
from sparsenet.data.dataset import SparseDataset
from sparsenet.data.folders import printable
from sparsenet.data.import_report import ImportReport, duplicates_of
from sparsenet.data.layout import UP_AXES, coordinate_dtype
from sparsenet.data.sample import Sample
from sparsenet.interrupts import deferred_interrupt
from sparsenet.kernels.cpu import threads

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh

_CHUNK = 8  # meshes passed to a process at a time
_PATIENCE = 0.2  # seconds between checks for Ctrl-C
_UNUSABLE = (ValueError, OSError, OverflowError, MemoryError)  # MeshError is a ValueError


@dataclass(frozen=True)
class MeshEntry:
    """A mesh to convert.

    load : returns the Mesh; must be picklable, such as `functools.partial(read_mesh, path)`
    name, label, split : as in `Sample`
    source : its name in a report, such as the path
    up_axis : up axis of the file's shape, "y" or "z", for the report; None if the mesh is not from a file
    """

    load: Callable[[], Mesh]
    name: str
    label: int
    split: str
    source: str
    up_axis: str | None = None


@dataclass(frozen=True)
class Conversion:
    """The settings for converting meshes to samples.

    render_size : cells along the longest side, and each side of the stored grid
    fill : voxelize solids instead of surfaces
    keep_meshes : store the meshes too, so that training can rotate and scale them
    processes : 1: convert in this process; more are spawned, so a script needs the
        `if __name__ == "__main__":` guard.  No effect on the file
    strict : raise at the first unusable mesh instead of leaving it out
    progress : show a progress bar on stderr if it is a terminal
    up_axis : up axis of the mesh files: "y" (rotated to z), "z" (unchanged), or
        "auto", by format (OBJ and glTF y, the others z)
    """

    render_size: int = 40
    fill: bool = False
    keep_meshes: bool = False
    processes: int = 1
    strict: bool = False
    progress: bool = True
    up_axis: str = "auto"


DEFAULT = Conversion()


def available_processes() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_meshes(entries: Sequence[MeshEntry], destination: str | os.PathLike, classes: Sequence[str],
                   conversion: Conversion, report: ImportReport | None = None) -> ImportReport:
    """Read and voxelize the meshes of the entries, in order, and write them to the file `destination`.

    Parameters
    ----------
    report : is filled in and returned; default: a new one

    Raises
    ------
    ValueError : a mesh is unusable and `strict` is set, or no mesh is usable.
    RuntimeError : a spawned process died.
    """
    if conversion.render_size < 1:
        raise ValueError(f"import: render_size is {conversion.render_size}, expected a positive whole number")
    if conversion.up_axis not in UP_AXES:
        raise ValueError(f"import: up_axis is {conversion.up_axis!r}, expected {', '.join(UP_AXES)}")
    report = report or ImportReport(Path(destination), 0)
    report.classes = list(classes)
    with SparseDataset.create(destination, _samples(entries, conversion, report),
                              (conversion.render_size,) * 3, conversion.render_size, classes,
                              conversion.fill, conversion.up_axis) as dataset:
        report.samples = len(dataset)
    return report


@dataclass(frozen=True)
class _Shape:
    cells: np.ndarray
    mesh: Mesh | None
    digest: bytes  # of the mesh


def _samples(entries: Sequence[MeshEntry], conversion: Conversion, report: ImportReport) -> Iterator[Sample]:
    from tqdm import tqdm

    from sparsenet.shapes.reading import mesh_suffix

    if conversion.progress:
        _tell_of_compiling()
    seen: list[tuple[bytes, str, str]] = []
    with tqdm(total=len(entries), unit="mesh", desc="voxelize", disable=None if conversion.progress else True,
              mininterval=0.5) as bar, deferred_interrupt() as interrupted:
        for entry, result in zip(entries, _results(entries, conversion, interrupted), strict=True):
            bar.update()
            if isinstance(result, str):
                if conversion.strict:
                    raise ValueError(f"import: {entry.source}: {result.removeprefix(f'{entry.source}: ')}")
                report.failures.append((entry.source, result))
                bar.set_postfix(unreadable=len(report.failures))
                continue
            if entry.up_axis is not None:
                report.up_axes[entry.up_axis, mesh_suffix(entry.source)] += 1
            seen.append((result.digest, entry.split, entry.name))
            report.counts[report.classes[entry.label] if entry.label >= 0 else None, entry.split] += 1
            yield Sample(result.cells, entry.label, entry.name, entry.split, mesh=result.mesh)
    report.duplicates = duplicates_of(seen)
    if not seen:
        first = f": the first failed with: {report.failures[0][1]}" if report.failures else ""
        raise ValueError(f"import: none of {len(entries)} meshes could be used{first}")


def _tell_of_compiling() -> None:
    """Checked beforehand instead of with `compilation_announced`, because spawned processes may do the compiling."""
    from sparsenet.kernels.cpu.numba_cache import is_kept

    if get_backend() is None and not is_kept("voxels"):
        print("compiling kernels for this processor: the first mesh takes a few seconds more", file=sys.stderr)


def _results(entries: Sequence[MeshEntry], conversion: Conversion,
             interrupted: Callable[[], bool]) -> Iterator[_Shape | str]:
    """Yield for each entry, in order, its shape or the reason for failure.

    Ctrl-C is polled here: as an exception it could be lost in a callback of the process pool.
    """
    processes = min(conversion.processes, -(-len(entries) // _CHUNK))
    if processes > 1:
        yield from _spawned(entries, conversion, processes, interrupted)
        return
    for entry in entries:
        if interrupted():
            raise KeyboardInterrupt
        yield _convert(entry.load, conversion)


def _spawned(entries: Sequence[MeshEntry], conversion: Conversion, processes: int,
             interrupted: Callable[[], bool]) -> Iterator[_Shape | str]:
    """`_results` from worker processes that end with this one, even if it is killed."""
    spawn = multiprocessing.get_context("spawn")
    lifeline, held = spawn.Pipe(duplex=False)  # only this process has `held`; closing it ends the workers
    pool = ProcessPoolExecutor(processes, spawn, _begin_process, (lifeline,))
    waiting: deque[Future] = deque()
    try:
        for start in range(0, len(entries), _CHUNK):
            with _deaf_children():
                loads = [entry.load for entry in entries[start:start + _CHUNK]]
                waiting.append(pool.submit(_convert_chunk, loads, conversion))
            if len(waiting) > 2 * processes:  # bounds the results held in memory
                yield from _awaited(waiting.popleft(), interrupted)
        while waiting:
            yield from _awaited(waiting.popleft(), interrupted)
    except (BrokenProcessPool, BrokenPipeError):  # BrokenPipeError: it died while being spawned
        held.close()
        if interrupted():  # a signal to the whole process group
            raise KeyboardInterrupt from None
        raise RuntimeError("import: a spawned process died: out of memory, or a script without the "
                           "`if __name__ == \"__main__\":` guard; processes=1 needs neither") from None
    except BaseException:  # pending results are no longer needed
        held.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        held.close()
        lifeline.close()


def _awaited(future: Future, interrupted: Callable[[], bool]) -> list[_Shape | str]:
    while not wait([future], timeout=_PATIENCE).done:
        if interrupted():
            raise KeyboardInterrupt
    if interrupted():
        raise KeyboardInterrupt
    return future.result()


@contextmanager
def _deaf_children() -> Iterator[None]:
    """A context whose spawned processes ignore Ctrl-C, which the whole group receives; the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: `_begin_process` ignores the signal instead
        yield
        return
    resource_tracker.ensure_running()  # otherwise it would start in the block and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_process(lifeline: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    threads.set_num_threads(1)


def _end_with_parent(lifeline: Connection) -> None:
    """Wait until the other end closes, which also happens if the parent is killed; then exit immediately."""
    try:
        lifeline.poll(None)
    finally:
        os._exit(1)


def _convert_chunk(loads: list[Callable[[], Mesh]], conversion: Conversion) -> list[_Shape | str]:
    return [_convert(load, conversion) for load in loads]


def _convert(load: Callable[[], Mesh], conversion: Conversion) -> _Shape | str:
    from sparsenet.shapes import Off3DPicture

    sides = (conversion.render_size,) * 3
    try:
        mesh = load()
        cells, _ = Off3DPicture(mesh, conversion.render_size).voxelize(sides, fill=conversion.fill)
    except _UNUSABLE as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return " ".join(printable(words).split()) or type(error).__name__
    content = hashlib.sha256(mesh.vertices.tobytes() + mesh.faces.tobytes()).digest()
    return _Shape(cells.astype(coordinate_dtype(sides)), mesh if conversion.keep_meshes else None, content)
