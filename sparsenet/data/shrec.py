"""Imports meshes that a classification file (.cla) labels, as SHREC's tracks publish them.

A `.cla` file has the form that the Princeton Shape Benchmark defined (see `psb.py`).  Its identifiers of models are
numbers or names; the file of number 12 may be called 12.off, m12.off, M000012.off or the like.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sparsenet.data.convert import DEFAULT, MESHES, Conversion
from sparsenet.data.folders import SPLITS, FoundMesh, find_meshes, printable, split_name
from sparsenet.data.import_report import ImportReport
from sparsenet.data.importers import EXTENSIONS, SplitDrawer, convert_files, mesh_file, with_gz
from sparsenet.data.psb import read_cla

_NUMBERED = re.compile(r"[A-Za-z_-]*0*(\d+)")


def import_shrec(source: str | os.PathLike, destination: str | os.PathLike, meshes: str | os.PathLike | None = None,
                 split: str | None = None, conversion: Conversion = DEFAULT, extensions: Sequence[str] = EXTENSIONS,
                 test_share: float = 0.2, seed: int = 0) -> ImportReport:
    """Import the meshes that `.cla` files label.

    A model is the file whose name, without the extension, is its identifier, in upper or lower case; if there is none
    and the identifier ends in a number, the file whose letters are followed by that number, with or without zeros.
    A model without a file, or with several, is left out and named in the report, as one that cannot be read.
    Only classes with models of their own count; they are sorted by name, samples by classification, class and position
    in the file.

    Parameters
    ----------
    source : a .cla file; or a folder with one, or with several that have the names of splits, such as train.cla and
        test.cla
    meshes : folder of the meshes, searched recursively; default: the folder of the .cla file
    split : of the models of a .cla file whose name is not that of a split; default: drawn for each class as in
        `import_folder`
    extensions, test_share, seed : as in `import_folder`

    Raises
    ------
    FileNotFoundError : the source, or the folder of the meshes, does not exist, or has no .cla file.
    ValueError : a .cla file is damaged (see `read_cla`), there are several that are not splits, or no model can be
        used.
    """
    classifications = _classifications(Path(source))
    folder = Path(meshes) if meshes is not None else next(iter(classifications)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"import: folder {folder} does not exist")
    suffixes = sorted({f".{extension.lower().lstrip('.')}" for extension in extensions})
    found = find_meshes(folder, with_gz(suffixes), unlabelled=True)
    names = _Names(found.meshes)
    report = ImportReport(Path(destination), 0, ignored=found.ignored, failures=found.unreadable)
    files, labelled = [], set()
    for path, own_split in classifications.items():
        held = {one.name: one.models for one in read_cla(path, str) if one.models}
        for label in sorted(held):
            for model in held[label]:
                mesh = names.of(model)
                if isinstance(mesh, str):
                    if conversion.strict:
                        raise ValueError(f"import: {path}: model {model}: {mesh}")
                    report.failures.append((printable(f"{path}, model {model}"), mesh))
                    continue
                files.append(mesh_file(mesh.path, mesh.name, label, own_split or split, conversion.up_axis))
                labelled.add(mesh.path)
    if not files:
        first = f": {': '.join(report.failures[0])}" if report.failures else ""
        raise ValueError(f"import: none of the models in {', '.join(map(str, classifications))} has a mesh in "
                         f"{folder}{first}")
    rest = len(found.meshes) - len(labelled)
    if rest:
        report.ignored["in no classification"] += rest
    return convert_files(files, destination, conversion, report, SplitDrawer(report, MESHES, test_share, seed, False))


def _classifications(source: Path) -> dict[Path, str | None]:
    """The .cla files, and the split that the name of each means."""
    if source.is_file():
        return {source: split_name(source.stem)}
    if not source.is_dir():
        raise FileNotFoundError(f"import: {source} does not exist")
    listed = {path: split_name(path.stem) for path in sorted(source.glob("*.cla"))}
    if not listed:
        raise FileNotFoundError(f"import: no .cla file in {source}")
    if len(listed) > 1 and None in listed.values():
        raise ValueError(f"import: {source} has {', '.join(path.name for path in listed)}: give one of them, or name "
                         f"them by splits ({', '.join(SPLITS)})")
    return listed


class _Names:
    """Meshes by the identifiers that a classification may give them."""

    def __init__(self, meshes: Sequence[FoundMesh]):
        self.exact: dict[str, list[FoundMesh]] = {}
        self.numbered: dict[int, list[FoundMesh]] = {}
        for mesh in meshes:
            stem = mesh.path.name.split(".")[0].casefold()
            self.exact.setdefault(stem, []).append(mesh)
            if number := _NUMBERED.fullmatch(stem):
                self.numbered.setdefault(int(number[1]), []).append(mesh)

    def of(self, identifier: str) -> FoundMesh | str:
        """The mesh, or why there is none."""
        number = _NUMBERED.fullmatch(identifier)
        found = self.exact.get(identifier.split(".")[0].casefold()) or (
            self.numbered.get(int(number[1]), []) if number else [])
        if not found:
            return "no mesh has its name"
        if len(found) > 1:
            return f"{len(found)} meshes have its name, such as {found[0].name} and {found[1].name}"
        return found[0]
