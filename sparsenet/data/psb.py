"""The Princeton Shape Benchmark (Shilane, Min, Kazhdan, Funkhouser 2004): its classification files
and its meshes.

A `.cla` file consists of words separated by white space:

    PSB 1                       format and version
    129 907                     classes, models
    airplane aircraft 0         name, parent ("0": none), number of its own models
    biplane airplane 2          ... followed by that many model numbers
    1118
    1120
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sparsenet.data.convert import DEFAULT, Conversion, MeshEntry, convert_meshes
from sparsenet.data.import_report import ImportReport
from sparsenet.data.importers import read_upright

_ROOT = "0"


@dataclass
class PsbClass:
    """One class of a classification.

    name, parent : parent is "" at the top
    models : the numbers, or names, of its own models, excluding those of its descendants
    """

    name: str
    parent: str
    models: list[Any] = field(default_factory=list)


def read_cla(path: str | os.PathLike, identifier: Callable[[str], Any] = int) -> list[PsbClass]:
    """The classes of a `.cla` file, parents before their children, empty ones included.

    identifier : makes the identifier of a model out of its word: int, or str for collections that name their models

    Raises
    ------
    FileNotFoundError : the file does not exist.
    ValueError : it is not a classification, a count does not match, a parent is unknown, or a class or
        model occurs twice; the message names the class.
    """
    words = Path(path).read_text(encoding="utf-8-sig", errors="replace").split()
    if words[:2] != ["PSB", "1"]:
        raise ValueError(f"read_cla: {path} starts with {' '.join(words[:2])[:40]!r}, expected 'PSB 1': it is not a "
                         "classification of the Princeton Shape Benchmark")
    classes: dict[str, PsbClass] = {}
    seen: set[Any] = set()
    try:
        counts = int(words[2]), int(words[3])
        at = 4
        while at < len(words):
            name, parent, count = words[at], words[at + 1], int(words[at + 2])
            models = [identifier(word) for word in words[at + 3:at + 3 + count]]
            if len(models) != count:
                raise IndexError("the last class is incomplete")
            at += 3 + count
            classes[name] = _checked_class(path, PsbClass(name, "" if parent == _ROOT else parent, models), classes,
                                           seen)
            seen.update(models)
    except _Contradiction:
        raise
    except (ValueError, IndexError):
        raise ValueError(f"read_cla: {path}: after {next(reversed(classes), 'the header')}: expected 'name parent "
                         "count' and that many model numbers: is the file truncated?") from None
    if (len(classes), len(seen)) != counts:
        raise ValueError(f"read_cla: {path} states {counts[0]} classes and {counts[1]} models, and has "
                         f"{len(classes)} and {len(seen)}: is the file truncated?")
    return list(classes.values())


def import_psb(folder: str | os.PathLike, destination: str | os.PathLike, conversion: Conversion = DEFAULT,
               shared_classes: bool = False) -> ImportReport:
    """Import the benchmark's base classification into a dataset with the splits "train" and "test".

    Only classes with models of their own count; they are sorted by name, samples by split, class and
    position in the file.

    Parameters
    ----------
    folder : contains `train.cla` and `test.cla` (possibly in `classification/v1/base/`), and the
        meshes as `meshes/m0.off` or in the benchmark's own layout, `db/0/m0/m0.off`
    shared_classes : import only the 21 classes that both splits have (369 and 370 meshes)

    Raises
    ------
    FileNotFoundError, ValueError : files are missing or damaged; see also `convert_meshes`.
    """
    folder = Path(folder)
    held = {split: {c.name: c.models for c in read_cla(_find_cla(folder, split)) if c.models}
            for split in ("train", "test")}
    names = set.intersection(*map(set, held.values())) if shared_classes else set.union(*map(set, held.values()))
    classes = sorted(names)
    if not classes:
        raise ValueError(f"import: the splits in {folder} have no class in common: leave shared_classes out")
    mesh_path = _mesh_paths(folder)
    entries = []
    for split, models in held.items():
        for label, name in enumerate(classes):
            for model in models.get(name, []):
                path = mesh_path(model)
                entries.append(MeshEntry(partial(read_upright, path, conversion.up_axis), f"m{model}", label, split,
                                         str(path)))
    return convert_meshes(entries, destination, classes, conversion)


class _Contradiction(ValueError):
    """A classification that is readable but contradicts itself."""


def _checked_class(path: str | os.PathLike, new: PsbClass, classes: dict[str, PsbClass], seen: set[Any]) -> PsbClass:
    if new.name in classes:
        raise _Contradiction(f"read_cla: {path}: class {new.name} occurs twice")
    if new.parent and new.parent not in classes:
        raise _Contradiction(f"read_cla: {path}: class {new.name} has the parent {new.parent}, which is not before it")
    if len(set(new.models)) != len(new.models) or not seen.isdisjoint(new.models):
        raise _Contradiction(f"read_cla: {path}: class {new.name} has a model that occurs twice")
    return new


def _find_cla(folder: Path, split: str) -> Path:
    for home in (folder, folder / "classification/v1/base"):
        if (home / f"{split}.cla").is_file():
            return home / f"{split}.cla"
    raise FileNotFoundError(f"import: no {split}.cla in {folder} or {folder}/classification/v1/base")


def _mesh_paths(folder: Path):  # noqa: ANN202 (a function of the model number)
    if (folder / "meshes").is_dir():
        return lambda model: folder / "meshes" / f"m{model}.off"
    if (folder / "db").is_dir():
        return lambda model: folder / "db" / str(model // 100) / f"m{model}" / f"m{model}.off"
    raise FileNotFoundError(f"import: no folder meshes or db in {folder}")
