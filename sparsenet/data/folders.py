"""Finds the meshes of a folder, and the class, split and name of each."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Folder name in lower case -> the split that it means
SPLITS = {"train": "train", "test": "test",
          "val": "val", "valid": "val", "validation": "val", "evaluation": "val"}
LAYOUTS = ("class/split", "split/class", "class")


@dataclass(frozen=True)
class FoundMesh:
    """A mesh file.

    path : as the file system stores it, which may not be valid text
    name : the path relative to the folder, with slashes, without the extension if that is unique
    label : the class name, or None
    split : "train", "test" or "val", or None if no folder names one
    """

    path: Path
    name: str
    label: str | None
    split: str | None


@dataclass
class FoundMeshes:
    """The contents of a folder.

    meshes : in the order of their paths
    layout : one of LAYOUTS, or "unlabelled"
    guess : why this layout was chosen; empty if it was given
    without_class : names of meshes outside every class
    ignored : kind, such as an extension -> number of files skipped
    unreadable : (name, reason) of folders that cannot be listed
    """

    meshes: list[FoundMesh]
    layout: str
    guess: str
    without_class: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def split_name(folder: str) -> str | None:
    """The split named by a folder or a CSV value, in upper or lower case; None if it is not a known one."""
    return SPLITS.get(folder.strip().lower())


def printable(text: str) -> str:
    """A path, or a message with one, as text that can be stored and printed: bytes of a file name that cannot be
    decoded become escapes such as `\\xe9`."""
    text = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xdc00:02x}", text)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def find_meshes(folder: Path, extensions: Collection[str], layout: str | None = None,
                unlabelled: bool = False) -> FoundMeshes:
    """Search a folder recursively.  Links are followed; hidden files are skipped.

    Parameters
    ----------
    extensions : endings of file names, in lower case, with their dot
    layout : one of LAYOUTS, or None to guess it from the folder names
    unlabelled : no folder is a class; a folder with the name of a split is that split

    Raises
    ------
    OSError : the folder itself cannot be listed.
    ValueError : the layout is "split/class", and a top-level folder does not have the name of a split.
    """
    ignored: Counter[str] = Counter()
    unreadable: list[tuple[str, str]] = []
    files = sorted(_walk(folder, extensions, ignored, unreadable))
    guess = ""
    if unlabelled:
        layout = "unlabelled"
    elif layout is None:
        layout, guess = _guess([parts[:-1] for parts in files])
    found = FoundMeshes([], layout, guess, [], ignored, unreadable)
    for parts, name in zip(files, _unique_names(files, extensions), strict=True):
        label, split = _place(parts[:-1], layout, folder)
        if label is None and not unlabelled:
            found.without_class.append(name)
        else:
            found.meshes.append(FoundMesh(folder.joinpath(*parts), name, label, split))
    return found


def extension_of(name: str, extensions: Collection[str]) -> str:
    """The longest of the extensions that a file name ends with, ignoring case; empty if none matches."""
    fitting = [extension for extension in extensions if name.lower().endswith(extension) and len(name) > len(extension)]
    return max(fitting, key=len, default="")


def _walk(top: Path, extensions: Collection[str], ignored: Counter[str],
          unreadable: list[tuple[str, str]]) -> Iterator[tuple[str, ...]]:
    """Yield the path of each mesh file below `top`, split into parts."""
    waiting: list[tuple[tuple[str, ...], frozenset]] = [((), frozenset())]
    while waiting:
        parts, above = waiting.pop()
        folder = top.joinpath(*parts)
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
            identity = (os.stat(folder).st_dev, os.stat(folder).st_ino)
        except OSError as error:
            if not parts:
                raise
            unreadable.append((printable(str(folder)), f"the folder cannot be listed: {error.strerror}"))
            continue
        if identity in above:
            ignored["links to a folder above"] += 1
            continue
        for entry in entries:
            if entry.name.startswith("."):
                ignored["hidden"] += 1
            elif os.path.isdir(entry.path):
                waiting.append(((*parts, entry.name), above | {identity}))
            elif extension_of(entry.name, extensions) and (os.path.isfile(entry.path) or os.path.islink(entry.path)):
                yield (*parts, entry.name)  # also a broken link: reading it reports the problem
            else:
                ignored[printable(os.path.splitext(entry.name)[1].lower()) or "no extension"] += 1


def _guess(homes: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    """The layout suggested by the folders of all meshes, and the reason."""
    tops = {home[0] for home in homes if home}
    if tops and all(split_name(top) for top in tops):
        return "split/class", f"each top-level folder has the name of a split: {', '.join(sorted(tops))}"
    inside = sorted({part for home in homes for part in home[1:] if split_name(part)})
    if inside:
        return "class/split", f"classes contain folders named {', '.join(inside)}"
    return "class", "no folder has the name of a split"


def _place(home: tuple[str, ...], layout: str, folder: Path) -> tuple[str | None, str | None]:
    """The class and the split of a mesh, from the folders it is in."""
    if layout == "unlabelled":
        return None, _first_split(home)
    if layout == "split/class":
        if home and split_name(home[0]) is None:
            raise ValueError(f"import: layout split/class: {printable(str(folder / home[0]))} does not have the name "
                             f"of a split ({', '.join(SPLITS)}): rename it, or use another layout")
        return (printable(home[1]), split_name(home[0])) if len(home) > 1 else (None, None)
    if not home:
        return None, None
    return printable(home[0]), _first_split(home[1:]) if layout == "class/split" else None


def _first_split(parts: Sequence[str]) -> str | None:
    return next((split for part in parts if (split := split_name(part))), None)


def _unique_names(files: Sequence[tuple[str, ...]], extensions: Collection[str]) -> list[str]:
    """Relative paths without their extensions, which are kept only where the names would not be unique."""
    whole = [printable("/".join(parts)) for parts in files]
    names = [name.removesuffix(name[len(name) - len(extension_of(name, extensions)):]) for name in whole]
    while True:
        count = Counter(names)
        longer = [name if count[name] == 1 else path for name, path in zip(names, whole, strict=True)]
        if longer == names:
            return names
        names = longer
