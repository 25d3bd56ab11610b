"""Imports volumes, NIfTI and arrays of NumPy, as voxel samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sparsenet.data.convert import DEFAULT, VOLUMES, Conversion
from sparsenet.data.import_report import ImportReport
from sparsenet.data.importers import FoundFile, SplitDrawer, convert_files, found_in_folder
from sparsenet.data.layout import wrong_sides
from sparsenet.data.sample import Sample
from sparsenet.data.volume_files import SUFFIXES, active_cells, read_volume_header
from sparsenet.shapes.mesh import MeshError
from sparsenet.wording import counted


def import_volumes(folder: str | os.PathLike, destination: str | os.PathLike, threshold: float = 0.0,
                   occupancy: bool = False, spatial_size: Sequence[int] | None = None,
                   conversion: Conversion = DEFAULT, extensions: Sequence[str] = SUFFIXES, test_share: float = 0.2,
                   seed: int = 0, layout: str | None = None, unlabelled: bool = False) -> ImportReport:
    """Import a folder of volumes into a dataset: the cells above a threshold, with their values as features.

    Folders are classes and splits as in `import_folder`.  A volume lies in the middle of the dataset's grid; nothing is
    resampled, and axes stay as they are stored.

    Parameters
    ----------
    threshold : cells with a larger value are active (of NIfTI, after scaling by its header)
    occupancy : store which cells are active, without their values: one channel of ones
    spatial_size : (D,) int, the grid of the dataset; default: the largest side of the volumes along each axis.  A
        volume that does not fit, or has another number of axes, is left out
    conversion : `processes`, `strict` and `progress` count
    extensions, test_share, seed, layout, unlabelled : as in `import_folder`

    Raises
    ------
    FileNotFoundError : the folder does not exist.
    ValueError : it has no volume, or none can be used; the grid is wrong; see also `import_folder`.
    """
    found, report = found_in_folder(folder, destination, extensions, conversion, VOLUMES, test_share, layout,
                                    unlabelled)
    sides = _grid([file.path for file in found], spatial_size)
    report.remarks.append(f"grid: {' x '.join(map(str, sides))} cells, those above {threshold:g} are active")
    load = partial(_load, threshold=threshold, occupancy=occupancy, sides=sides)
    files = [FoundFile(file.path, file.name, file.label, file.split, partial(load, file.path)) for file in found]
    return convert_files(files, destination, replace(conversion, render_size=max(sides), fill=True), report,
                         SplitDrawer(report, VOLUMES, test_share, seed, unlabelled), VOLUMES, sides)


def _grid(paths: Sequence[Path], spatial_size: Sequence[int] | None) -> tuple[int, ...]:
    """The given sides, or the largest of the volumes that can be read and have as many axes as the first of them."""
    if spatial_size is not None:
        sides = tuple(int(side) for side in spatial_size)
    else:
        shapes = [shape for path in paths if (shape := _shape(path))] or [(1,)]
        sides = tuple(map(max, zip(*(shape for shape in shapes if len(shape) == len(shapes[0])), strict=True)))
    if problem := wrong_sides(sides):
        raise ValueError(f"import: {problem}")
    return sides


def _shape(path: Path) -> tuple[int, ...] | None:
    """None if the header cannot be read, which is reported when the cells are."""
    try:
        return read_volume_header(path).shape
    except (OSError, ValueError):
        return None


def _load(path: Path, threshold: float, occupancy: bool, sides: tuple[int, ...]) -> Sample:
    shape = read_volume_header(path).shape
    if len(shape) != len(sides) or any(own > side for own, side in zip(shape, sides, strict=True)):
        raise MeshError(f"{path}: it has the shape {shape}, which does not fit the grid {sides}: "
                        f"expected {counted(len(sides), 'axis', 'axes')}, and no longer ones")
    cells, values = active_cells(path, threshold)
    cells += (np.array(sides) - shape) // 2
    return Sample(cells, features=None if occupancy else values[:, None])
