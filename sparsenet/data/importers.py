"""Meshes in folders, in lists, or made from formulas: into a dataset file.

`psb.py` and `modelnet40.py` beside this read two published collections.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sparsenet.data.convert import DEFAULT, Conversion, ImportReport, MeshEntry, convert_meshes
from sparsenet.random import keyed_rng

if TYPE_CHECKING:
    from sparsenet.shapes import Mesh

EXTENSIONS = (".off", ".obj", ".ply", ".stl", ".glb")


def import_folder(folder: str | os.PathLike, destination: str | os.PathLike,
                  conversion: Conversion = DEFAULT, extensions: Sequence[str] = EXTENSIONS,
                  test_share: float = 0.2, seed: int = 0) -> ImportReport:
    """The tree `folder/class/split/mesh.off`, as ModelNet is laid out, into a dataset.

    Of the n meshes that lie in `folder/class/` itself, test_share * n (rounded) are put in "test" and the
    others in "train": with two or more at least one in each, unless test_share is 0 or 1.  Which ones
    is drawn by (seed, name): one mesh more or less moves at most one of the others.

    Classes, splits and files are taken in the order of their names; a sample's name is `class/file`
    without the extension.

    Raises
    ------
    FileNotFoundError : there is no such folder.
    ValueError : it holds no mesh of these extensions; see also `convert_meshes`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"import: there is no folder {folder}")
    if not 0 <= test_share <= 1:
        raise ValueError(f"import: test_share is {test_share}, expected 0 to 1")
    suffixes = {f".{extension.lower().lstrip('.')}" for extension in extensions}
    found: list[tuple[Path, str, str, str]] = []
    for home in _folders(folder):
        loose = _meshes(home, suffixes)
        held_out = _held_out([f"{home.name}/{path.stem}" for path in loose], test_share, seed)
        found += [(path, f"{home.name}/{path.stem}", home.name, "test" if number in held_out else "train")
                  for number, path in enumerate(loose)]
        for part in _folders(home):
            found += [(path, f"{home.name}/{path.stem}", home.name, part.name) for path in _meshes(part, suffixes)]
    if not found:
        raise ValueError(f"import: {folder} holds no mesh: expected {folder}/CLASS/SPLIT/NAME"
                         f"{'|'.join(sorted(suffixes))}, or {folder}/CLASS/NAME...")
    return _convert_files(found, destination, conversion)


def import_csv(table: str | os.PathLike, destination: str | os.PathLike,
               conversion: Conversion = DEFAULT) -> ImportReport:
    """The meshes listed in a CSV file into a dataset, in its order.

    The first line names the columns: `path` and `label` (the class's name), and perhaps `split`
    ("train" where absent or empty) and `name` (the path where absent or empty).  Paths are relative
    to the table's folder.  Classes are sorted by name.

    Raises
    ------
    FileNotFoundError : there is no such table.
    ValueError : a column is missing, a line has no path or no label, or there is no line.
    """
    table = Path(table)
    found: list[tuple[Path, str, str, str]] = []
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            missing = [name for name in ("path", "label") if name not in columns]
            if missing:
                raise ValueError(f"import: {table} has the columns {', '.join(columns) or 'none'}, expected "
                                 "path, label and perhaps split, name: add a first line that names them")
            for row in reader:
                path, label = (row["path"] or "").strip(), (row["label"] or "").strip()
                if not path or not label:
                    raise ValueError(f"import: {table} line {reader.line_num}: path or label is empty")
                found.append((table.parent / path, (row.get("name") or "").strip() or path, label,
                              (row.get("split") or "").strip() or "train"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"import: {table} cannot be read as CSV in UTF-8: {error}") from None
    if not found:
        raise ValueError(f"import: {table} lists no mesh")
    return _convert_files(found, destination, conversion)


def import_parametric(destination: str | os.PathLike, per_class: Mapping[str, int], seed: int = 0,
                      conversion: Conversion = DEFAULT) -> ImportReport:
    """The built-in shapes, made from a seed, into a dataset.

    per_class : for each split how many shapes of each class, such as {"train": 60, "test": 20}

    The shape of (seed, split, class, number) is always the same one.

    Raises
    ------
    ValueError : a count below 1.
    """
    from sparsenet.shapes.parametric import CLASSES

    wrong = {split: count for split, count in per_class.items() if count < 1}
    if wrong or not per_class:
        raise ValueError(f"import: per_class is {dict(per_class)}, expected 1 or more for each split")
    entries = [MeshEntry(partial(_parametric_mesh, name, seed, split, number), f"{name}/{split}_{number:04d}",
                         label, split, f"{name} {split} {number}")
               for split, count in per_class.items() for label, name in enumerate(CLASSES) for number in range(count)]
    return convert_meshes(entries, destination, list(CLASSES), conversion)


def _held_out(names: Sequence[str], share: float, seed: int) -> set[int]:
    """Which of a class's meshes are tested on: those that drew the lowest numbers."""
    count = round(share * len(names))
    if 0 < share < 1:
        count = min(max(count, 1), len(names) - 1) if len(names) > 1 else 0
    draws = [(keyed_rng(seed, "split", name).random(), number) for number, name in enumerate(names)]
    return {number for _, number in sorted(draws)[:count]}


def _parametric_mesh(name: str, seed: int, split: str, number: int) -> Mesh:
    from sparsenet.shapes.parametric import parametric_mesh

    return parametric_mesh(name, keyed_rng(seed, "parametric", split, name, number))


def _convert_files(found: Sequence[tuple[Path, str, str, str]], destination: str | os.PathLike,
                   conversion: Conversion) -> ImportReport:
    """found : (path, name, class, split) of each mesh file."""
    from sparsenet.shapes import read_mesh

    classes = sorted({label for _, _, label, _ in found})
    number = {label: index for index, label in enumerate(classes)}
    entries = [MeshEntry(partial(read_mesh, path), name, number[label], split, str(path))
               for path, name, label, split in found]
    return convert_meshes(entries, destination, classes, conversion)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _meshes(folder: Path, suffixes: set[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir()
                  if path.is_file() and path.suffix.lower() in suffixes and not path.name.startswith("."))
