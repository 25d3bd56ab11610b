"""ModelNet10 (Wu et al. 2015) as 32^3 grids of surfaces, packed in one .npz file.

Its keys: `train` and `test` uint8 (N, 4096), the bits of each grid in row-major order, z last and up; `train_label` and
`test_label` uint8 (N,), which count the classes in alphabetical order.  The object fills 32^3, in one pose.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sparsenet.data.dataset import SparseDataset
from sparsenet.data.import_report import ImportReport, duplicates_of
from sparsenet.data.sample import Sample

SIDE = 32
CLASSES = ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet")
_SPLITS = ("train", "test")


def import_modelnet10_voxels(source: str | os.PathLike, destination: str | os.PathLike) -> ImportReport:
    """Import the file into a dataset with one sample for each object, named by class, split and number.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is not such an archive; the message names the key.
    """
    parts = _read(Path(source))
    report = ImportReport(Path(destination), 0, classes=list(CLASSES))
    with SparseDataset.create(destination, _samples(parts, report), (SIDE,) * 3, SIDE, CLASSES,
                              up_axis="z") as dataset:
        report.samples = len(dataset)
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


def _samples(parts: dict[str, tuple[np.ndarray, np.ndarray]], report: ImportReport) -> Iterator[Sample]:
    seen: list[tuple[bytes, str, str]] = []
    for split, (packed, labels) in parts.items():
        for number, (grid, label) in enumerate(zip(packed, labels.tolist(), strict=True)):
            cells = np.argwhere(np.unpackbits(grid).reshape((SIDE,) * 3)).astype(np.uint8)
            name = f"{CLASSES[label]}/{split}_{number:04d}"
            yield Sample(cells, label, name, split)
            seen.append((hashlib.sha256(grid.tobytes()).digest(), split, name))
            report.counts[CLASSES[label], split] += 1
    report.duplicates = duplicates_of(seen)
