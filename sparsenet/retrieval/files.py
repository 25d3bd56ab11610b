"""HDF5 files of this part: written beside and renamed, checked when opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def check_folder(path: str | Path) -> None:
    """Raises FileNotFoundError where the folder of a file to be written does not exist."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: the folder {folder} does not exist: make it")


@contextmanager
def write_beside(path: str | Path, kind: str, version: int) -> Iterator[Any]:
    """An open h5py.File that becomes `path` when all went well; else `path` stays as it was.

    Raises
    ------
    OSError : the folder does not exist or is not writable.
    """
    import h5py

    check_folder(path)
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(beside, "w") as file:
            file.attrs["format"] = kind
            file.attrs["version"] = version
            yield file
        with open(beside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def open_checked(path: str | Path, kind: str, version: int) -> Iterator[Any]:
    """An open h5py.File of this kind.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is no HDF5 file, damaged, of another kind, of a newer version, or something is missing
        that is read from it within the context.
    """
    import h5py

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir() or not h5py.is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file, expected one of format {kind!r}")
    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get("format")
            if found != kind:
                raise ValueError(f"{path}: its format is {found!r}, expected {kind!r}")
            if file.attrs["version"] > version:
                raise ValueError(f"{path}: version {file.attrs['version']}, this package reads up to {version}: "
                                 "update sparsenet")
            yield file
    except (KeyError, OSError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged ({error.args[0] if error.args else error}): make it again") from error
