"""Reads furniture libraries of Sweet Home 3D (.sh3f): what their models are, who made them, and under which licence.

A library is a ZIP file, or its unpacked folder:

    PluginFurnitureCatalog.properties     id#1=..., name#1=Chair, model#1=/folder/chair/chair.obj, creator#1=..., ...
    LICENSE.TXT                           the library's licence
    folder/chair/chair.obj                a model; a text about its own licence may lie beside it
"""

from __future__ import annotations

import html
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from sparsenet.shapes.mesh import Mesh, MeshError
from sparsenet.shapes.reading import UNPACKED_OF_ANY_FILE, UNPACKED_PER_BYTE, mesh_suffix, parse_mesh, up_axis_of

CATALOGUE, LICENCE_FILE = "PluginFurnitureCatalog.properties", "LICENSE.TXT"
_KEY = re.compile(r"(\w+)#(\d+)\s*=\s*(.*)")
_TAGS = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)
_RESTRICTED = re.compile(r"non[- ]?commercial|share[- ]?alike|no[- ]?deriv\w*|\bGPL\b|general public licen[cs]e|"
                         "all rights reserved", re.IGNORECASE)
_BY = re.compile(r"Creative Commons Attribution (\d\.\d)(?: (United States))?", re.IGNORECASE)
_ZERO = re.compile(r"Creative Commons Zero|CC-?0\b|release\w* (?:in)?to the public domain", re.IGNORECASE)


@dataclass(frozen=True)
class Furniture:
    """A model of a library.

    library : the library's file, or its unpacked folder;  model : the mesh's path within it
    name, tags, category, creator : as the catalogue has them
    licence : "CC0", "CC-BY 3.0", "CC-BY 3.0 United States", ...; "" if none of these is stated
    problem : why the licence is not free, in words; "" if it is
    own_licence : whether a text beside the model states it, and not that of the library
    rotation : nine numbers, the rows of the matrix that brings the mesh upright; empty: it stands as it is
    """

    library: str
    model: str
    name: str
    tags: str = ""
    category: str = ""
    creator: str = ""
    licence: str = ""
    problem: str = ""
    own_licence: bool = False
    rotation: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """The library's name and the model's, with a slash."""
        return f"{PurePosixPath(Path(self.library).name).stem}/{PurePosixPath(self.model).stem}"


def find_libraries(source: str | os.PathLike) -> list[Path]:
    """The libraries at or below a path, sorted: .sh3f files and unpacked folders.

    Raises FileNotFoundError if the path does not exist or has none.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"import: {source} does not exist")
    found = [*source.rglob("*.sh3f"), *(path.parent for path in source.rglob(CATALOGUE))]
    if not found:
        raise FileNotFoundError(f"import: {source} has no furniture library: expected .sh3f files, or folders with "
                                f"{CATALOGUE}")
    return sorted(found)


def read_library(path: str | os.PathLike) -> list[Furniture]:
    """The models of a library, in the order of their numbers in its catalogue.

    Raises ValueError if it is not a library.
    """
    files = _Files(str(path))
    listed: dict[int, dict[str, str]] = {}
    for line in _decoded(files.read(CATALOGUE)).splitlines():
        if entry := _KEY.fullmatch(line.strip()):
            listed.setdefault(int(entry[2]), {})[entry[1]] = entry[3].strip()
    general = _text(files.read(LICENCE_FILE)) if LICENCE_FILE in files.names else ""
    beside = {name for name in files.names if "licen" in PurePosixPath(name).name.lower()}
    found = []
    for number, keys in sorted(listed.items()):
        missing = [key for key in ("name", "model") if not keys.get(key)]
        if missing:
            raise ValueError(f"import: {path}: {CATALOGUE} has no {missing[0]}#{number}")
        model = keys["model"].lstrip("/")
        own = sorted(name for name in beside if PurePosixPath(name).parent == PurePosixPath(model).parent)
        licence, problem = licence_of(" ".join(_text(files.read(name)) for name in own) if own else general)
        found.append(Furniture(str(path), model, keys["name"], keys.get("tags", ""), keys.get("category", ""),
                               keys.get("creator", ""), licence, problem, bool(own),
                               tuple(map(float, keys.get("modelRotation", "").split()))))
    return found


def licence_of(text: str) -> tuple[str, str]:
    """The free licence that a text states, and "", or "" and why it is none.

    Free are Creative Commons Zero and Attribution.  A text that has words of a restriction is refused, wherever they
    are; one with both licences counts as Attribution, which asks for more.
    """
    if restriction := _RESTRICTED.search(text):
        return "", f"its licence says {restriction[0]!r}"
    if by := _BY.search(text):
        return f"CC-BY {by[1]}{' United States' if by[2] else ''}", ""
    if _ZERO.search(text):
        return "CC0", ""
    return "", "no licence is stated" if not text.strip() else "its licence is neither CC0 nor CC-BY"


def read_furniture(library: str, model: str, rotation: Sequence[float] = ()) -> Mesh:
    """The mesh of a model, with z up.  Raises MeshError if it cannot be used."""
    try:
        data = _Files(library).read(model)
        mesh = parse_mesh(data, mesh_suffix(model))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise MeshError(f"{library}, {model}: {error}") from None
    if rotation:
        matrix = np.array(rotation, np.float64)
        if matrix.shape != (9,) or not np.allclose(matrix.reshape(3, 3) @ matrix.reshape(3, 3).T, np.eye(3), atol=1e-3):
            raise MeshError(f"{library}, {model}: modelRotation is no rotation")
        mesh = Mesh(mesh.vertices @ matrix.reshape(3, 3).T, mesh.faces)
    return mesh.upright(up_axis_of(model))


def credits_text(models: Sequence[Furniture]) -> str:
    """The creators of models, by library and licence, as lines of Markdown."""
    by: dict[tuple[str, str], list[str]] = {}
    for one in models:
        by.setdefault((Path(one.library).stem, one.licence), []).append(one.creator or "unnamed")
    return "\n".join(f"- {library}, {licence} ({len(names)}): {', '.join(sorted(set(names), key=str.casefold))}"
                     for (library, licence), names in sorted(by.items())) + "\n"


class _Files:
    """The files of a library, in its ZIP file or its folder."""

    def __init__(self, library: str):
        self.library = library
        self.names = _names(library)

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise ValueError(f"import: {self.library} has no {name}: it is not a complete furniture library")
        if Path(self.library).is_dir():
            return (Path(self.library) / name).read_bytes()
        with zipfile.ZipFile(self.library) as archive:
            packed = archive.getinfo(name)
            if packed.file_size > max(UNPACKED_OF_ANY_FILE, UNPACKED_PER_BYTE * packed.compress_size):
                raise ValueError(f"import: {self.library}: {name} unpacks to {packed.file_size} bytes, more than "
                                 f"{UNPACKED_PER_BYTE} times its size")
            return archive.read(packed)


@lru_cache(maxsize=16)
def _names(library: str) -> frozenset[str]:
    root = Path(library)
    if root.is_dir():
        return frozenset(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    try:
        with zipfile.ZipFile(library) as archive:
            return frozenset(archive.namelist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"import: {library} is not a furniture library: {error}") from None


def _decoded(data: bytes) -> str:
    """The text of a .properties file: Latin-1 with escapes."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), data.decode("latin-1"))


def _text(data: bytes) -> str:
    """The words of a plain or HTML text, with single spaces."""
    return " ".join(html.unescape(_TAGS.sub(" ", data.decode("utf-8", "replace"))).split())
