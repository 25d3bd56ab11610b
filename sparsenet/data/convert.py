"""Many meshes into one dataset file, in processes of their own, in the order of the list."""

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
from sparsenet.kernels import threads

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh

_CHUNK = 8  # meshes handed to a process at a time
_PATIENCE = 0.2  # seconds between two looks whether Ctrl-C was pressed
_UNUSABLE = (ValueError, OSError, OverflowError, MemoryError)  # MeshError is a ValueError


@dataclass(frozen=True)
class MeshEntry:
    """A mesh to convert.

    load : returns the Mesh; it must survive pickling, as `functools.partial(read_mesh, path)` does
    name, label, split : as in `Sample`
    source : what to call it in a report, such as the path
    up_axis : along which the file's shape stands, "y" or "z", for the report; None if it comes from no file
    """

    load: Callable[[], Mesh]
    name: str
    label: int
    split: str
    source: str
    up_axis: str | None = None


@dataclass(frozen=True)
class Conversion:
    """How meshes become samples.

    render_size : cells along the longest side, and the sides of the stored grid
    fill : solids instead of surfaces
    keep_meshes : store the meshes too, so that training can turn and scale them
    processes : 1 works in this process; more are spawned, so a script that asks for them needs the
        `if __name__ == "__main__":` guard.  No effect on the file
    strict : raise at the first mesh that cannot be used, instead of leaving it out
    progress : show a progress bar on stderr, if that is a terminal
    up_axis : along which mesh files stand: "y" (they are turned upright, to z), "z" (left as they stand), or
        "auto", by their formats (OBJ and glTF y, the others z)
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
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_meshes(entries: Sequence[MeshEntry], destination: str | os.PathLike, classes: Sequence[str],
                   conversion: Conversion, report: ImportReport | None = None) -> ImportReport:
    """Read and voxelize the meshes of the entries into the file `destination`, in their order.

    Parameters
    ----------
    report : is completed, and returned; default: a new one

    Raises
    ------
    ValueError : a mesh cannot be used and `strict` is set, or no mesh can be used.
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
    """Asked beforehand, not announced by `compilation_announced`: spawned processes may be those that compile."""
    from sparsenet.kernels.numba_cache import is_kept

    if get_backend() is None and not is_kept("voxelize"):
        print("compiling kernels for this processor: the first mesh takes some seconds more", file=sys.stderr)


def _results(entries: Sequence[MeshEntry], conversion: Conversion,
             interrupted: Callable[[], bool]) -> Iterator[_Shape | str]:
    """For each entry in order its shape, or why there is none.

    Ctrl-C is asked for here: raised anywhere, it can be lost within a callback of the process pool.
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
    """The same, by processes that end with this one, however it ends."""
    spawn = multiprocessing.get_context("spawn")
    lifeline, held = spawn.Pipe(duplex=False)  # `held` is here alone: closed, it ends the processes
    pool = ProcessPoolExecutor(processes, spawn, _begin_process, (lifeline,))
    waiting: deque[Future] = deque()
    try:
        for start in range(0, len(entries), _CHUNK):
            with _deaf_children():
                loads = [entry.load for entry in entries[start:start + _CHUNK]]
                waiting.append(pool.submit(_convert_chunk, loads, conversion))
            if len(waiting) > 2 * processes:  # what is held in memory stays bounded
                yield from _awaited(waiting.popleft(), interrupted)
        while waiting:
            yield from _awaited(waiting.popleft(), interrupted)
    except (BrokenProcessPool, BrokenPipeError):  # the second: while it was being spawned
        held.close()
        if interrupted():  # by a signal to the whole group
            raise KeyboardInterrupt from None
        raise RuntimeError("import: a spawned process died: out of memory, or a script without the "
                           "`if __name__ == \"__main__\":` guard; processes=1 does without them") from None
    except BaseException:  # the results under way are of no use any more
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
    """Processes spawned within it never see Ctrl-C, which reaches the whole group: the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: `_begin_process` does what can be done
        yield
        return
    resource_tracker.ensure_running()  # or it would start within the block, and unblock the signal
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
    """Wait until the other end is closed, as it also is if the parent is killed; then end at once."""
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
