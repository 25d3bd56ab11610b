"""Many meshes into one dataset file, in processes of their own, in the order of the list."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparsenet.command import deferred_interrupt
from sparsenet.data.dataset import SparseDataset
from sparsenet.data.layout import coordinate_dtype
from sparsenet.data.sample import Sample
from sparsenet.kernels import threads

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh

_CHUNK = 8  # meshes handed to a process at a time
_UNUSABLE = (ValueError, OSError, OverflowError, MemoryError)  # MeshError is a ValueError


@dataclass(frozen=True)
class MeshEntry:
    """A mesh to convert.

    load : returns the Mesh; it must survive pickling, as `functools.partial(read_mesh, path)` does
    name, label, split : as in `Sample`
    source : what to call it in a report, such as the path
    """

    load: Callable[[], Mesh]
    name: str
    label: int
    split: str
    source: str


@dataclass
class ImportReport:
    """What an importer did.

    path : the dataset file;  samples : how many it holds
    failures : (source, reason) of each mesh that could not be used
    """

    path: Path
    samples: int
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.samples} samples, {self.path.stat().st_size / 1e6:.1f} MB"]
        if self.failures:
            lines.append(f"left out {len(self.failures)} unreadable meshes:")
            lines += [f"  {source}: {reason.removeprefix(f'{source}: ')}" for source, reason in self.failures]
        return "\n".join(lines)


@dataclass(frozen=True)
class Conversion:
    """How meshes become samples.

    render_size : cells along the longest side, and the sides of the stored grid
    fill : solids instead of surfaces
    keep_meshes : store the meshes too, so that training can turn and scale them
    processes : 1 works in this process; more are spawned, so a script that asks for them needs the
        `if __name__ == "__main__":` guard.  No effect on the file
    strict : raise at the first mesh that cannot be used, instead of leaving it out
    progress : show a progress bar on stderr
    """

    render_size: int = 40
    fill: bool = False
    keep_meshes: bool = False
    processes: int = 1
    strict: bool = False
    progress: bool = True


DEFAULT = Conversion()


def available_processes() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_meshes(entries: Sequence[MeshEntry], destination: str | os.PathLike, classes: Sequence[str],
                   conversion: Conversion) -> ImportReport:
    """Read and voxelize the meshes of the entries into the file `destination`, in their order.

    Raises
    ------
    ValueError : a mesh cannot be used and `strict` is set, or no mesh can be used.
    RuntimeError : a spawned process died.
    """
    if conversion.render_size < 1:
        raise ValueError(f"import: render_size is {conversion.render_size}, expected a positive whole number")
    report = ImportReport(Path(destination), 0)
    with SparseDataset.create(destination, _samples(entries, conversion, report),
                              (conversion.render_size,) * 3, conversion.render_size, classes,
                              conversion.fill) as dataset:
        report.samples = len(dataset)
    return report


@dataclass(frozen=True)
class _Shape:
    cells: np.ndarray
    mesh: Mesh | None


def _samples(entries: Sequence[MeshEntry], conversion: Conversion, report: ImportReport) -> Iterator[Sample]:
    from tqdm import tqdm

    used = 0
    with tqdm(total=len(entries), unit="mesh", desc="voxelize", disable=not conversion.progress,
              mininterval=0.5) as bar, deferred_interrupt() as interrupted:
        for entry, result in zip(entries, _results(entries, conversion), strict=True):
            if interrupted():  # asked here: raised anywhere, it can be lost within a callback of the process pool
                raise KeyboardInterrupt
            bar.update()
            if isinstance(result, str):
                if conversion.strict:
                    raise ValueError(f"import: {entry.source}: {result.removeprefix(f'{entry.source}: ')}")
                report.failures.append((entry.source, result))
                bar.set_postfix(unreadable=len(report.failures))
                continue
            used += 1
            yield Sample(result.cells, entry.label, entry.name, entry.split, mesh=result.mesh)
    if not used:
        first = f": the first failed with: {report.failures[0][1]}" if report.failures else ""
        raise ValueError(f"import: none of {len(entries)} meshes could be used{first}")


def _results(entries: Sequence[MeshEntry], conversion: Conversion) -> Iterator[_Shape | str]:
    """For each entry in order its shape, or why there is none."""
    chunks = (entries[start:start + _CHUNK] for start in range(0, len(entries), _CHUNK))
    processes = min(conversion.processes, -(-len(entries) // _CHUNK))
    if processes <= 1:
        for chunk in chunks:
            for entry in chunk:
                yield _convert(entry.load, conversion)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin_process)
    waiting: deque = deque()
    try:
        for chunk in chunks:
            with _deaf_children():
                waiting.append(pool.submit(_convert_chunk, [entry.load for entry in chunk], conversion))
            if len(waiting) > 2 * processes:  # what is held in memory stays bounded
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise RuntimeError("import: a spawned process died: out of memory, or a script without the "
                           "`if __name__ == \"__main__\":` guard; processes=1 does without them") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threads.set_num_threads(1)


def _convert_chunk(loads: list[Callable[[], Mesh]], conversion: Conversion) -> list[_Shape | str]:
    return [_convert(load, conversion) for load in loads]


def _convert(load: Callable[[], Mesh], conversion: Conversion) -> _Shape | str:
    from sparsenet.shapes import Off3DPicture

    sides = (conversion.render_size,) * 3
    try:
        mesh = load()
        cells, _ = Off3DPicture(mesh, conversion.render_size).voxelize(sides, fill=conversion.fill)
    except _UNUSABLE as error:
        return " ".join(str(error).split()) or type(error).__name__
    return _Shape(cells.astype(coordinate_dtype(sides)), mesh if conversion.keep_meshes else None)
