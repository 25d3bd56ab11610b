"""ModelNet10 (Wu et al. 2015) as 32^3 grids of surfaces, packed in one .npz file.

Its keys: `train` and `test` uint8 (N, 4096), the bits of each grid in row-major order, z last and up; `train_label` and
`test_label` uint8 (N,), which count the classes in alphabetical order.  The object fills 32^3, in one pose.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from sparsenet.data.import_report import ImportReport, duplicates_of
from sparsenet.data.parts import Part, write_part
from sparsenet.data.sample import Sample
from sparsenet.data.writer import write_dataset

SIDE = 32
CLASSES = ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet")
_SPLITS = ("train", "test")


def import_modelnet10_voxels(source: str | os.PathLike, destination: str | os.PathLike, part: Part | None = None
                             ) -> ImportReport:
    """Import the file into a dataset with one sample for each object, named by class, split and number.

    part : import this part of the objects alone, see `Conversion.part`

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is not such an archive; the message names the key.  A file that is not this part is there.
    """
    grids = _read(Path(source))
    report = ImportReport(Path(destination), 0, classes=list(CLASSES))
    objects = sum(len(labels) for _, labels in grids.values())
    seen: list[tuple[bytes, str, str]] = []

    def write(path: Path, own: slice, record: Callable[[], str] | None = None) -> None:
        write_dataset(path, _samples(grids, report, seen, own), (SIDE,) * 3, SIDE, CLASSES, fill=False, up_axis="z",
                      record=record)

    if part is not None:
        settings = [[hashlib.sha256(array.tobytes()).hexdigest() for array in arrays] for arrays in grids.values()]
        report = write_part(part, destination, report, [settings], objects, ("object", "objects"), write,
                            lambda: [digest for digest, _, _ in seen])
        report.counts.clear()
        return report
    write(report.path, slice(0, objects))
    report.duplicates = duplicates_of(seen)
    report.samples = len(seen)
    return report


def _read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Split -> packed grids (N, SIDE^3 / 8) uint8 and labels (N,) of integers."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            parts = {split: (arrays[split], arrays[f"{split}_label"]) for split in _SPLITS}
    except FileNotFoundError:
        raise FileNotFoundError(f"import: {path} does not exist: expected ModelNet10's voxels, an .npz file") from None
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"import: {path} is not an archive of packed voxels: {error}") from None
    for split, (packed, labels) in parts.items():
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != SIDE**3 // 8:
            raise ValueError(f"import: {path}: {split} is {packed.dtype} {packed.shape}, expected uint8 "
                             f"(N, {SIDE**3 // 8})")
        if labels.dtype.kind not in "iu" or labels.shape != (len(packed),):
            raise ValueError(f"import: {path}: {split}_label is {labels.dtype} {labels.shape}, expected integers "
                             f"({len(packed)},)")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(CLASSES):
            raise ValueError(f"import: {path}: {split}_label is {labels.min()} to {labels.max()}, expected 0 to "
                             f"{len(CLASSES) - 1}")
    return parts


def _samples(grids: dict[str, tuple[np.ndarray, np.ndarray]], report: ImportReport,
             seen: list[tuple[bytes, str, str]], own: slice) -> Iterator[Sample]:
    """The samples of some of the objects of all splits, which are added to `seen`."""
    everything = ((split, *one) for split, arrays in grids.items() for one in enumerate(zip(*arrays, strict=True)))
    for split, number, (grid, label) in islice(everything, own.start, own.stop):
        cells = np.argwhere(np.unpackbits(grid).reshape((SIDE,) * 3)).astype(np.uint8)
        name = f"{CLASSES[label]}/{split}_{number:04d}"
        yield Sample(cells, int(label), name, split)
        seen.append((hashlib.sha256(grid.tobytes()).digest(), split, name))
        report.counts[CLASSES[label], split] += 1
