"""Imports meshes and point clouds from folders, CSV lists or formulas into a dataset file.

`volumes.py` imports volumes; `psb.py`, `shrec.py`, `modelnet40.py` and `modelnet10.py` import published collections.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sparsenet.data.convert import DEFAULT, MESHES, POINTS, Conversion, MeshEntry, SplitDrawing, convert_meshes
from sparsenet.data.folders import LAYOUTS, FoundMesh, FoundMeshes, find_meshes, printable, split_name
from sparsenet.data.holdout import lowest_draws
from sparsenet.data.import_report import ImportReport, kinds_in_words
from sparsenet.random import keyed_rng
from sparsenet.wording import counted

if TYPE_CHECKING:
    from sparsenet.data.sample import Sample
    from sparsenet.shapes import Mesh

# Meshes by default; points (.xyz) and voxels (.binvox), often stored beside their meshes, only on request
EXTENSIONS = (".off", ".obj", ".ply", ".stl", ".glb", ".gltf")
POINT_EXTENSIONS = (".ply", ".xyz", ".npy")
_DELIMITERS = (",", ";", "\t")
_COLUMNS = ("path", "label", "split", "name")


@dataclass(frozen=True)
class FoundFile:
    """A file to import, with the name, class (None if unknown) and split (None if it is drawn) of its sample.

    load : see `MeshEntry`
    up_axis : of the file's shape, for the report
    """

    path: Path
    name: str
    label: str | None
    split: str | None
    load: Callable[[], Mesh | Sample]
    up_axis: str | None = None


def axis_of(path: str | os.PathLike, up_axis: str) -> str:
    """The up axis of a file's shape, "y" or "z": `up_axis`, or if that is "auto", by the file's format."""
    from sparsenet.shapes.reading import up_axis_of

    return up_axis_of(path) if up_axis == "auto" else up_axis


def read_upright(path: str | os.PathLike, up_axis: str = "auto") -> Mesh:
    """The mesh of a file, rotated so that its up axis is z, like the samples of a dataset.

    Parameters
    ----------
    up_axis : up axis of the file's shape: "y", "z" (no rotation), or "auto", by the file's format (OBJ and
        glTF y, the others z); `SparseDataset.up_axis` is the value a dataset was made with

    Raises
    ------
    MeshError, OSError : see `sparsenet.shapes.read_mesh`.
    ValueError : another axis.
    """
    from sparsenet.shapes import read_mesh

    return read_mesh(path).upright(axis_of(path, up_axis))


def read_points_upright(path: str | os.PathLike, up_axis: str = "auto") -> Mesh:
    """The points of a file as a mesh (see `sparsenet.shapes.read_points`), rotated as `read_upright` does."""
    from sparsenet.shapes import read_points

    return read_points(path).upright(axis_of(path, up_axis))


def import_folder(folder: str | os.PathLike, destination: str | os.PathLike,
                  conversion: Conversion = DEFAULT, extensions: Sequence[str] = EXTENSIONS,
                  test_share: float = 0.2, seed: int = 0, layout: str | None = None,
                  unlabelled: bool = False) -> ImportReport:
    """Import a folder of meshes, searched recursively, into a dataset.

    A folder named train, test, val, valid, validation or evaluation, ignoring case, can be a split ("train",
    "test" or "val").  If every top-level folder with meshes has such a name, these are the splits, and
    the folders in them are the classes (`train/chair/a.off`).  Otherwise every top-level folder is a class,
    whatever its name, and within a class a folder with such a name is a split (`chair/train/a.off`).  All other
    folders have no meaning.  Meshes outside every class are left out and named in the report.

    Of the n usable meshes of a class that are in no split, test_share * n (rounded) are put in "test" and the
    others in "train"; if n is 2 or more, at least one in each, unless test_share is 0 or 1.  They are
    drawn by (seed, name): adding or removing a mesh moves at most one of the others.

    Samples are in the order of their paths; classes are sorted by name.  A sample's name is its path within
    the folder, without the extension if no other mesh has that name.  Bytes of a file name that are not text
    are written as escapes.

    Parameters
    ----------
    extensions : extensions of mesh files, optionally followed by .gz; .xyz and .binvox are supported but not
        in the default
    layout : "class/split", "split/class" or "class" (no folder is a split); default: guessed as above
    unlabelled : no folder is a class: samples get the label -1, and the split "train" if no folder names one

    Raises
    ------
    FileNotFoundError : the folder does not exist.
    ValueError : it has no mesh with these extensions, or none in a class; the layout does not match; see also
        `convert_meshes`.
    """
    return _import_shapes(folder, destination, conversion, extensions, MESHES, read_upright, test_share, seed, layout,
                          unlabelled)


def import_points(folder: str | os.PathLike, destination: str | os.PathLike, conversion: Conversion = DEFAULT,
                  extensions: Sequence[str] = POINT_EXTENSIONS, test_share: float = 0.2, seed: int = 0,
                  layout: str | None = None, unlabelled: bool = False) -> ImportReport:
    """Import a folder of point clouds: the cells that hold points, once the cloud is centred and its longest side is
    scaled to the render size, as of a mesh.

    Folders are classes and splits as in `import_folder`, whose arguments and errors these are.  With `keep_meshes` the
    points are stored as degenerate triangles, so that training can turn and stretch them; `fill` has no meaning.

    extensions : .ply (vertices; faces are ignored), .xyz (text) and .npy (an array (n, 3) or wider); .txt, .pts and
        .asc, text as .xyz, are supported but not in the default
    """
    if conversion.fill:
        raise ValueError("import: fill is set, but points enclose nothing: leave it out")
    return _import_shapes(folder, destination, conversion, extensions, POINTS, read_points_upright, test_share, seed,
                          layout, unlabelled)


def _import_shapes(folder: str | os.PathLike, destination: str | os.PathLike, conversion: Conversion,
                   extensions: Sequence[str], noun: tuple[str, str], read: Callable[..., Mesh], test_share: float,
                   seed: int, layout: str | None, unlabelled: bool) -> ImportReport:
    found, report = found_in_folder(folder, destination, extensions, conversion, noun, test_share, layout, unlabelled)
    return convert_files([mesh_file(file.path, file.name, file.label, file.split, conversion.up_axis, read)
                          for file in found], destination, conversion, report,
                         SplitDrawer(report, noun, test_share, seed, unlabelled), noun)


def mesh_file(path: Path, name: str, label: str | None, split: str | None, up_axis: str,
              read: Callable[..., Mesh] = read_upright) -> FoundFile:
    """A file whose shape `read(path, up_axis)` returns."""
    return FoundFile(path, name, label, split, partial(read, path, up_axis), axis_of(path, up_axis))


def found_in_folder(folder: str | os.PathLike, destination: str | os.PathLike, extensions: Sequence[str],
                    conversion: Conversion, noun: tuple[str, str], test_share: float, layout: str | None,
                    unlabelled: bool) -> tuple[list[FoundMesh], ImportReport]:
    """The files of a folder, and the report that they begin.  Arguments and errors are those of `import_folder`.

    noun : what they are called, one and several
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"import: folder {folder} does not exist")
    if not 0 <= test_share <= 1:
        raise ValueError(f"import: test_share is {test_share}, expected 0 to 1")
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"import: layout is {layout!r}, expected {', '.join(LAYOUTS)}")
    if layout is not None and unlabelled:
        raise ValueError(f"import: layout {layout} says which folders are classes, unlabelled that none is: "
                         "give one of the two")
    suffixes = sorted({f".{extension.lower().lstrip('.')}" for extension in extensions})
    found = find_meshes(folder, with_gz(suffixes), layout, unlabelled)
    if not found.meshes:
        raise ValueError(_nothing_found(found, folder, suffixes, noun))
    if conversion.strict and found.without_class:
        raise ValueError(f"import: {folder}: {found.without_class[0]} is in no class folder")
    if conversion.strict and found.unreadable:
        raise ValueError(f"import: {': '.join(found.unreadable[0])}")
    report = ImportReport(Path(destination), 0, ignored=found.ignored, without_class=found.without_class,
                          failures=found.unreadable)
    report.remarks.append(f"layout: {found.layout}{f' (guessed: {found.guess})' if found.guess else ''}")
    return found.meshes, report


def with_gz(suffixes: Sequence[str]) -> list[str]:
    """The suffixes, and each followed by .gz."""
    return [*suffixes, *(f"{suffix}.gz" for suffix in suffixes)]


@dataclass(frozen=True)
class SplitDrawer:
    """Draws the splits of entries without one, once it is known which are usable, and says so in the report.

    noun : what the entries are called, one and several
    test_share, seed, unlabelled : see `import_folder`
    """

    report: ImportReport
    noun: tuple[str, str]
    test_share: float
    seed: int
    unlabelled: bool

    @property
    def settings(self) -> tuple[float, int, bool]:
        return self.test_share, self.seed, self.unlabelled

    def __call__(self, usable: Sequence[MeshEntry]) -> list[str]:
        tested = _held_out_of_classes(usable, self.test_share, self.seed) if not self.unlabelled else set()
        loose = sum(entry.split is None for entry in usable)
        if loose:
            where = (f"{len(tested)} of them drawn for test (test share {self.test_share:g}, seed {self.seed}), the "
                     "rest in train" if not self.unlabelled else "all in train")
            self.report.remarks.append(
                f"{counted(loose, f'{self.noun[0]} is', f'{self.noun[1]} are')} in no split: {where}")
        return [entry.split or ("test" if entry.name in tested else "train") for entry in usable]


def import_csv(path: str | os.PathLike, destination: str | os.PathLike,
               conversion: Conversion = DEFAULT) -> ImportReport:
    """Import the meshes listed in a CSV file into a dataset, in the order of its lines.

    The first line names the columns, in any order and ignoring case: `path`, and optionally `label` (the class
    name; without this column nothing is labelled), `split` (default "train"; names of splits as in
    `import_folder`, or any other) and `name` (default: the path).  Columns are separated by commas,
    semicolons or tabs; empty lines are skipped.  Paths are relative to the CSV file's folder.  Classes are
    sorted by name.

    Raises
    ------
    FileNotFoundError : the CSV file does not exist.
    ValueError : a column is missing or occurs twice, a line has no path, no label or too many values, a name
        occurs twice, or no mesh is listed.
    """
    source = Path(path)
    try:
        with open(source, newline="", encoding="utf-8-sig") as file:
            files, remarks = _listed_files(file, source, conversion.up_axis)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"import: {source} cannot be read as CSV in UTF-8: {error}") from None
    if not files:
        raise ValueError(f"import: {source} does not list any mesh")
    return convert_files(files, destination, conversion, ImportReport(Path(destination), 0, remarks=remarks))


def import_parametric(destination: str | os.PathLike, per_class: Mapping[str, int], seed: int = 0,
                      conversion: Conversion = DEFAULT, parts: bool = False) -> ImportReport:
    """Write the built-in parametric shapes, generated from a seed, to a dataset.

    per_class : number of shapes of each class for each split, such as {"train": 60, "test": 20}
    parts : label their cells, and the faces of meshes that are kept, with their parts (`shapes.parametric.PARTS`)

    The shape of (seed, split, class, number) is always the same.

    Raises
    ------
    ValueError : a count below 1.
    """
    from sparsenet.shapes.parametric import CLASSES, PARTS

    wrong = {split: count for split, count in per_class.items() if count < 1}
    if wrong or not per_class:
        raise ValueError(f"import: per_class is {dict(per_class)}, expected 1 or more for each split")
    entries = [MeshEntry(partial(_parametric_mesh, name, seed, split, number, parts), f"{name}/{split}_{number:04d}",
                         label, split, f"{name} {split} {number}")
               for split, count in per_class.items() for label, name in enumerate(CLASSES) for number in range(count)]
    return convert_meshes(entries, destination, list(CLASSES), conversion, part_classes=PARTS if parts else ())


def _parametric_mesh(name: str, seed: int, split: str, number: int, parts: bool) -> Mesh:
    from sparsenet.shapes.parametric import parametric_mesh

    return parametric_mesh(name, keyed_rng(seed, "parametric", split, name, number), parts)


def convert_files(files: Sequence[FoundFile], destination: str | os.PathLike, conversion: Conversion,
                  report: ImportReport, draw: SplitDrawing | None = None,
                  noun: tuple[str, str] = MESHES, spatial_size: Sequence[int] | None = None) -> ImportReport:
    """Convert files, whose classes are sorted by name; see `convert_meshes` for the arguments and errors."""
    classes = sorted({file.label for file in files if file.label is not None})
    number = {label: index for index, label in enumerate(classes)}
    entries = [MeshEntry(file.load, file.name, -1 if file.label is None else number[file.label], file.split,
                         printable(str(file.path)), file.up_axis) for file in files]
    return convert_meshes(entries, destination, classes, conversion, report, draw, noun, spatial_size)


def _held_out_of_classes(meshes: Sequence[MeshEntry], share: float, seed: int) -> set[str]:
    """Names of the meshes to put in "test", among those that are in no split."""
    loose: dict[int, list[str]] = {}
    for mesh in meshes:
        if mesh.split is None:
            loose.setdefault(mesh.label, []).append(mesh.name)
    return {names[place] for names in loose.values()
            for place in lowest_draws(names, _test_count(len(names), share), seed, "split")}


def _test_count(meshes: int, share: float) -> int:
    """Number of test meshes of a class: of two or more meshes at least one, and not all."""
    count = round(share * meshes)
    return count if share in (0, 1) else min(max(count, 1), meshes - 1)


def _nothing_found(found: FoundMeshes, folder: Path, suffixes: Sequence[str], noun: tuple[str, str]) -> str:
    if found.without_class:
        meshes = counted(len(found.without_class), *noun)
        return (f"import: of {meshes} in {folder} none is in a class folder (layout {found.layout}): expected "
                "CLASS/NAME, CLASS/SPLIT/NAME or SPLIT/CLASS/NAME; if they have no classes, import them as unlabelled "
                "(--unlabelled)")
    problem = f"; {': '.join(found.unreadable[0])}" if found.unreadable else ""
    return (f"import: {folder} contains no {noun[0]}: expected CLASS/NAME, CLASS/SPLIT/NAME or SPLIT/CLASS/NAME, each "
            f"NAME ending in {', '.join(suffixes)}; ignored {counted(found.ignored.total(), 'file')}"
            f"{kinds_in_words(found.ignored)}{problem}")


def _listed_files(file: TextIO, source: Path, up_axis: str) -> tuple[list[FoundFile], list[str]]:
    """The files listed in a CSV file, and remarks about its columns."""
    lines = file.readlines()
    header = next((line for line in lines if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(lines, strict=True, delimiter=delimiter, skipinitialspace=True)
    rows = (cells for row in reader if any(cells := [cell.strip() for cell in row]))
    columns = [name.lower() for name in next(rows, [])]
    if "path" not in columns:
        raise ValueError(f"import: {source} has the columns {', '.join(columns) or 'none'}, expected path, label and "
                         "optionally split, name: add a first line that names them")
    twice = [name for name in _COLUMNS if columns.count(name) > 1]
    if twice:
        raise ValueError(f"import: {source} has two columns {twice[0]}: remove one")
    files: list[FoundFile] = []
    line_of: dict[str, int] = {}
    for row in rows:
        place = f"import: {source} line {reader.line_num}"
        if any(row[len(columns):]):
            raise ValueError(f"{place} has {len(row)} values for {len(columns)} columns: put a value with "
                             f"{delimiter!r} in quotes")
        cells = dict(zip(columns, row, strict=False))
        path, label, split = cells["path"], cells.get("label"), cells.get("split")
        if not path or ("label" in columns and not label):
            raise ValueError(f"{place}: path or label is empty (omit the column label if nothing is labelled)")
        name = cells.get("name") or path
        if name in line_of:
            raise ValueError(f"{place}: line {line_of[name]} has the name {name!r}, too: give each its own in a "
                             "column name")
        line_of[name] = reader.line_num
        files.append(mesh_file(source.parent / path, name, label, split_name(split or "train") or split or "train",
                               up_axis))
    return files, _column_remarks(columns)


def _column_remarks(columns: Sequence[str]) -> list[str]:
    unread = [name or "(no name)" for name in columns if name not in _COLUMNS]
    remarks = [f"columns not read: {', '.join(unread)}"] if unread else []
    return remarks if "label" in columns else [*remarks, "no column label: unlabelled"]
