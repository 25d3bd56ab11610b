"""ModelNet40 as the 30^3 occupancy grids of 3DShapeNets (Wu et al. 2015), packed in two .npz files.

Keys of each: `vox_packed` uint8 (N, 12, 3375), the bits of 12 grids in row-major order; `label` uint8
(N,); `name` text (N,), class/id; `classes` text (40,).  The 12 poses are rotations by multiples of 30
degrees about the last axis; the object fills 24^3 of the grid.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from sparsenet.data.import_report import ImportReport, duplicates_of
from sparsenet.data.parts import Part, write_part
from sparsenet.data.sample import Sample
from sparsenet.data.writer import write_dataset
from sparsenet.interrupts import deferred_interrupt

SIDE = 30
RENDER_SIZE = 24
NOUN = ("object", "objects")  # for messages
_SPLITS = ("train", "test")
_BLOCK = 64  # objects decompressed at a time: 20 MB


def import_modelnet40_voxels(folder: str | os.PathLike, destination: str | os.PathLike, poses: int | None = None,
                             progress: bool = True, part: Part | None = None) -> ImportReport:
    """Import `folder/train.npz` and `folder/test.npz` into a dataset with one sample for each pose.

    The grids are read from the archives block by block, never all at once.

    Parameters
    ----------
    poses : number of poses to import; default: all 12
    part : import this part of the objects alone, see `Conversion.part`; what lies before it in an archive is still
        decompressed

    Raises
    ------
    FileNotFoundError : one of the two files is missing.
    ValueError : a file is not such an archive; the message names the key.  A file that is not this part is there.
    """
    folder = Path(folder)
    archives = [_Archive(folder / f"{split}.npz", split) for split in _SPLITS]
    first = archives[0]
    if any(archive.classes != first.classes for archive in archives):
        raise ValueError(f"import: train.npz and test.npz in {folder} have different classes")
    if poses is not None and not 1 <= poses <= min(archive.poses for archive in archives):
        raise ValueError(f"import: poses is {poses}, expected 1 to {min(archive.poses for archive in archives)}")
    report = ImportReport(Path(destination), 0, classes=first.classes)
    objects = sum(archive.objects for archive in archives)
    seen: list[tuple[bytes, str, str]] = []

    def write(path: Path, own: slice, record: Callable[[], str] | None = None) -> None:
        write_dataset(path, _samples(archives, poses, progress, report, seen, own), (SIDE,) * 3, RENDER_SIZE,
                      first.classes, fill=True, up_axis="auto", record=record)

    if part is not None:
        settings = [[archive.checksum, archive.labels.tolist(), archive.names] for archive in archives]
        report = write_part(part, destination, report, [settings, first.classes, poses], objects, NOUN, write,
                            lambda: [digest for digest, _, _ in seen])
        report.counts.clear()
        return report
    write(report.path, slice(0, objects))
    report.duplicates = duplicates_of(seen)
    report.samples = report.counts.total()
    return report


class _Archive:
    """One .npz file: its small arrays, and the shape of the large one."""

    def __init__(self, path: Path, split: str):
        self.path = path
        self.split = split
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                self.labels = arrays["label"]
                self.names = arrays["name"].tolist()
                self.classes = arrays["classes"].tolist()
            with zipfile.ZipFile(path) as archive, archive.open("vox_packed.npy") as voxels:
                shape, fortran, dtype = _read_header(voxels)
                self.checksum = archive.getinfo("vox_packed.npy").CRC
        except FileNotFoundError:
            raise FileNotFoundError(f"import: {path} does not exist: expected train.npz and test.npz in one "
                                    "folder") from None
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"import: {path} is not an archive of packed voxels: {error}") from None
        packed = -(-SIDE**3 // 8)
        if len(shape) != 3 or shape[2] != packed or dtype != np.uint8 or fortran:
            raise ValueError(f"import: {path}: vox_packed is {dtype} {shape}, expected uint8 (N, poses, {packed})")
        self.objects, self.poses = shape[:2]
        if not len(self.labels) == len(self.names) == self.objects:
            raise ValueError(f"import: {path}: vox_packed has {self.objects} objects, label {len(self.labels)}, "
                             f"name {len(self.names)}")

    def blocks(self, own: range) -> Iterator[np.ndarray]:
        """Yield (n, poses, packed) uint8 of these objects, up to _BLOCK at a time."""
        packed = -(-SIDE**3 // 8)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("vox_packed.npy") as file:
                _read_header(file)
                for start in range(0, own.start, _BLOCK):
                    _read_exactly(file, min(_BLOCK, own.start - start) * self.poses * packed)
                for start in range(own.start, own.stop, _BLOCK):
                    shape = (min(_BLOCK, own.stop - start), self.poses, packed)
                    yield np.frombuffer(_read_exactly(file, int(np.prod(shape))), np.uint8).reshape(shape)
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"import: {self.path} is damaged: {error}") from None


def _samples(archives: list[_Archive], poses: int | None, progress: bool, report: ImportReport,
             seen: list[tuple[bytes, str, str]], own: slice) -> Iterator[Sample]:
    """The samples of some of the objects of all archives, which are numbered anew and added to `seen`."""
    from tqdm import tqdm

    start, stop = own.start, own.stop
    with tqdm(total=stop - start, unit="object", desc="import", disable=None if progress else True,
              mininterval=0.5) as bar, deferred_interrupt() as interrupted:
        for archive in archives:
            inside = range(max(0, start), max(0, start, min(stop, archive.objects)))
            place = inside.start
            for block in archive.blocks(inside) if inside else ():
                for grids in block[:, :poses]:
                    if interrupted():
                        raise KeyboardInterrupt
                    label, name, number = int(archive.labels[place]), archive.names[place], len(seen)
                    for pose, cells in enumerate(_cells(grids)):
                        yield Sample(cells, label, name, archive.split, object=number, pose=pose)
                    seen.append((hashlib.sha256(grids).digest(), archive.split, name))
                    report.counts[archive.classes[label], archive.split] += len(grids)
                    place += 1
                    bar.update()
            start, stop = start - archive.objects, stop - archive.objects


def _cells(grids: np.ndarray) -> list[np.ndarray]:
    """The active cells (n, 3) uint8 of each grid in (poses, packed) uint8, in row-major order."""
    bits = np.unpackbits(grids, axis=1, count=SIDE**3)
    pose, cell = np.divmod(np.flatnonzero(bits.view(bool)), SIDE**3)  # much faster than nonzero on 2 axes
    cells = np.stack(np.unravel_index(cell, (SIDE,) * 3), axis=1).astype(np.uint8)
    return np.split(cells, np.searchsorted(pose, np.arange(1, len(grids))))


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError(f"{size} bytes expected, {len(data)} left")
    return data
