"""Converts many meshes, or other shapes, to one dataset file in parallel processes, keeping the order of the list."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sparsenet.backend import get_backend
from sparsenet.data.folders import printable
from sparsenet.data.import_report import ImportReport, duplicates_of
from sparsenet.data.layout import UP_AXES, coordinate_dtype
from sparsenet.data.parts import Part, write_part
from sparsenet.data.sample import Sample, canonical
from sparsenet.data.writer import write_dataset
from sparsenet.interrupts import deferred_interrupt
from sparsenet.kernels import set_num_threads
from sparsenet.worker_processes import WorkerDied, map_in_workers

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh

MESHES, POINTS, VOLUMES = ("mesh", "meshes"), ("point cloud", "point clouds"), ("volume", "volumes")  # for messages
_WORTHWHILE = 8  # meshes for which it is worth spawning another process
_UNUSABLE = (ValueError, OSError, OverflowError, MemoryError)  # MeshError is a ValueError


@dataclass(frozen=True)
class MeshEntry:
    """A mesh to convert.

    load : returns the Mesh, or a Sample of which the cells and features are taken; must be picklable, such as
        `functools.partial(read_mesh, path)`
    name, label, split : as in `Sample`; split None: drawn once it is known which meshes are usable
    source : its name in a report, such as the path
    up_axis : up axis of the file's shape, "y" or "z", for the report; None if the mesh is not from a file
    """

    load: Callable[[], Mesh | Sample]
    name: str
    label: int
    split: str | None
    source: str
    up_axis: str | None = None


class SplitDrawing(Protocol):
    """How the splits of usable entries are drawn.

    settings : what it depends on besides the entries, for JSON
    """

    @property
    def settings(self) -> tuple[Any, ...]: ...

    def __call__(self, usable: Sequence[MeshEntry]) -> list[str]: ...


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
    part : convert this part of the files alone, into a file beside the destination (`Part.path`), which is kept if it
        is there already, made with the same settings from the same files; `join_datasets` joins the parts
    """

    render_size: int = 40
    fill: bool = False
    keep_meshes: bool = False
    processes: int = 1
    strict: bool = False
    progress: bool = True
    up_axis: str = "auto"
    part: Part | None = None


DEFAULT = Conversion()


def available_processes() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def convert_meshes(entries: Sequence[MeshEntry], destination: str | os.PathLike, classes: Sequence[str],
                   conversion: Conversion, report: ImportReport | None = None,
                   draw: SplitDrawing | None = None,
                   noun: tuple[str, str] = MESHES, spatial_size: Sequence[int] | None = None,
                   part_classes: Sequence[str] = (), watch: Callable[[MeshEntry, np.ndarray], None] | None = None
                   ) -> ImportReport:
    """Read and voxelize the meshes of the entries, in order, and write them to the file `destination`.

    Parameters
    ----------
    report : is filled in and returned; default: a new one
    draw : called with the usable entries when all have been read, returns the split of each; default: as the
        entries say, "train" if they do not
    noun : what the entries are called in messages, one and several
    spatial_size : (D,) int, the grid; default: a cube of the render size
    part_classes : names of the parts that the faces of the meshes are labelled with; the cells are labelled then
    watch : called with each usable entry and its cells (n, D), in order, before `draw`

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
    read: list[tuple[MeshEntry, bytes]] = []
    sides = (conversion.render_size,) * 3 if spatial_size is None else tuple(spatial_size)
    if conversion.part is not None:
        return _convert_part(conversion.part, entries, destination, conversion, report, draw, noun, sides, part_classes)

    def final_splits() -> list[str]:
        return filled_report(report, read, draw, classes)

    write_dataset(destination, _samples(entries, conversion, report, read, noun, sides, watch), sides,
                  conversion.render_size, classes, conversion.fill, conversion.up_axis, final_splits, part_classes)
    return report


def filled_report(report: ImportReport, read: list[tuple[MeshEntry, bytes]], draw: SplitDrawing | None,
                  classes: Sequence[str], poses: Sequence[int] | None = None) -> list[str]:
    """The split of each object that was read; fills in the report's counts and duplicates.

    read : each object's entry and the digest of its content
    poses : number of samples of each; default: one
    """
    used = [entry for entry, _ in read]
    splits = [entry.split or "train" for entry in used] if draw is None else list(draw(used))
    several = [1] * len(read) if poses is None else poses
    report.samples = sum(several)
    for entry, split, count in zip(used, splits, several, strict=True):
        report.counts[classes[entry.label] if entry.label >= 0 else None, split] += count
    report.duplicates = duplicates_of([(digest, split, entry.name)
                                       for (entry, digest), split in zip(read, splits, strict=True)])
    return splits


def unusable(count: int, noun: tuple[str, str], report: ImportReport) -> ValueError:
    """The error if none of the entries is usable."""
    first = f": the first failed with: {report.failures[0][1]}" if report.failures else ""
    return ValueError(f"import: none of {count} {noun[1]} could be used{first}")


def _convert_part(part: Part, entries: Sequence[MeshEntry], destination: str | os.PathLike, conversion: Conversion,
                  report: ImportReport, draw: SplitDrawing | None, noun: tuple[str, str], sides: tuple[int, ...],
                  part_classes: Sequence[str]) -> ImportReport:
    """`convert_meshes` of one part of the entries, whose splits are drawn when the parts are joined."""
    how = None if draw is None else list(draw.settings)
    settings = ([(entry.name, entry.label, entry.split, entry.source, entry.up_axis) for entry in entries],
                report.classes, [conversion.render_size, conversion.fill, conversion.keep_meshes, conversion.strict,
                                 conversion.up_axis], how, noun, list(sides), list(part_classes))
    read: list[tuple[MeshEntry, bytes]] = []

    def splits() -> list[str]:
        return [entry.split or ("train" if draw is None else "") for entry, _ in read]

    def write(path: Path, own: slice, record: Callable[[], str]) -> None:
        write_dataset(path, _samples(entries[own], conversion, report, read, noun, sides, None), sides,
                      conversion.render_size, report.classes, conversion.fill, conversion.up_axis, splits, part_classes,
                      record)

    return write_part(part, destination, report, settings, len(entries), noun, write,
                      lambda: [digest for _, digest in read], how)


@dataclass(frozen=True)
class _Shape:
    cells: np.ndarray
    features: np.ndarray | None
    mesh: Mesh | None
    digest: bytes  # of the mesh, or of cells and features
    labels: np.ndarray | None = None  # of the cells


def _samples(entries: Sequence[MeshEntry], conversion: Conversion, report: ImportReport,
             read: list[tuple[MeshEntry, bytes]], noun: tuple[str, str], sides: tuple[int, ...],
             watch: Callable[[MeshEntry, np.ndarray], None] | None) -> Iterator[Sample]:
    """The samples of the usable entries, which are added to `read`, each with the digest of its mesh."""
    from tqdm import tqdm

    from sparsenet.shapes.reading import mesh_suffix

    if conversion.progress and noun != VOLUMES:
        _tell_of_compiling()
    doing = "read" if noun == VOLUMES else "voxelize"
    with tqdm(total=len(entries), unit=noun[0], desc=doing, disable=None if conversion.progress else True,
              mininterval=0.5) as bar, deferred_interrupt() as interrupted:
        for entry, result in zip(entries, _results(entries, conversion, sides, interrupted), strict=True):
            bar.update()
            if isinstance(result, str):
                if conversion.strict:
                    raise ValueError(f"import: {entry.source}: {result.removeprefix(f'{entry.source}: ')}")
                report.failures.append((entry.source, result))
                bar.set_postfix(unreadable=len(report.failures))
                continue
            if entry.up_axis is not None:
                report.up_axes[entry.up_axis, mesh_suffix(entry.source)] += 1
            read.append((entry, result.digest))
            if watch is not None:
                watch(entry, result.cells)
            yield Sample(result.cells, entry.label, entry.name, entry.split or "train", features=result.features,
                         mesh=result.mesh, site_labels=result.labels)
    if not read and conversion.part is None:
        raise unusable(len(entries), noun, report)


def _tell_of_compiling() -> None:
    """Checked beforehand instead of with `compilation_announced`, because spawned processes may do the compiling."""
    from sparsenet.kernels.cpu.numba_cache import is_kept

    if get_backend() is None and not is_kept("voxels"):
        print("compiling kernels for this processor: the first mesh takes a few seconds more", file=sys.stderr)


def _results(entries: Sequence[MeshEntry], conversion: Conversion, sides: tuple[int, ...],
             interrupted: Callable[[], bool]) -> Iterator[_Shape | str]:
    """Yield for each entry, in order, its shape or the reason for failure."""
    convert = partial(_convert, conversion, sides)
    processes = min(conversion.processes, -(-len(entries) // _WORTHWHILE))
    if processes <= 1:
        for entry in entries:
            if interrupted():
                raise KeyboardInterrupt
            yield convert(entry.load)
        return
    try:
        yield from map_in_workers(convert, [entry.load for entry in entries], processes, interrupted,
                                  prepare=partial(set_num_threads, 1))
    except WorkerDied:
        raise RuntimeError("import: a spawned process died: out of memory, or a script without the "
                           "`if __name__ == \"__main__\":` guard; processes=1 needs neither") from None


def _convert(conversion: Conversion, sides: tuple[int, ...], load: Callable[[], Mesh | Sample]) -> _Shape | str:
    from sparsenet.shapes import Off3DPicture

    try:
        shape = load()
        if isinstance(shape, Sample):
            cells, features, _ = canonical(shape.coordinates, shape.features, None, sides, 0)
            return _Shape(cells.astype(coordinate_dtype(sides)), features, None, _digest(cells, features))
        voxels = Off3DPicture(shape, conversion.render_size).voxelize(sides, fill=conversion.fill)
    except _UNUSABLE as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return " ".join(printable(words).split()) or type(error).__name__
    return _Shape(voxels.coordinates.astype(coordinate_dtype(sides)), None, shape if conversion.keep_meshes else None,
                  _digest(shape.vertices, shape.faces), voxels.labels)


def _digest(*arrays: np.ndarray | None) -> bytes:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays if array is not None)).digest()
