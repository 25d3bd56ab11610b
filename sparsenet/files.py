"""Files that are always whole: written beside and renamed; HDF5 files that are checked when read.

An HDF5 file of this package has the attributes `format` and `version`.  The small kinds (weights,
checkpoints, descriptors, an index) are written and read in one go, and sealed: their user block, the
first 512 bytes, which HDF5 leaves alone, states the sha256 of all that follows.  It is verified
before the HDF5 library sees the file, which a changed byte can crash.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sparsenet.hdf5_output import Hdf5Output

_SEAL = b"sparsenet sha256 "
_USER_BLOCK = 512  # bytes, the smallest there is
_PART = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})\.(?P<process>\d+)\.[0-9a-f]{8}\.part", re.DOTALL)
_UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError)  # what h5py raises for a damaged file


def check_folder(path: str | os.PathLike) -> None:
    """Raises FileNotFoundError or IsADirectoryError where a file at `path` cannot be written."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist: make it")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected the name of a file")


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """The name of a file to write, beside `path`: it takes the place of `path` when the block ends, synced
    to the disk, and is removed when the block fails, Ctrl-C included.

    What killed processes of this machine have left in the folder is removed, too.

    Raises
    ------
    FileNotFoundError, IsADirectoryError : see `check_folder`.
    OSError : the disk is full, or refuses to write; it names `path`.
    """
    path = Path(path)
    check_folder(path)
    _remove_stale_parts(path.parent)
    beside = path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        yield beside
        with open(beside, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    except OSError as error:
        if error.filename == str(beside):  # a name that is gone by the time that anyone reads it
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself outlives a power cut; Windows cannot open folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _remove_stale_parts(folder: Path) -> None:
    """Remove files of `replacing` in a folder whose process is gone; those of other machines stay."""
    if os.name != "posix":  # where asking for a process by `os.kill` would end it
        return
    with os.scandir(folder) as entries:
        stale = [entry.path for entry in entries if (part := _PART.fullmatch(entry.name))
                 and part["machine"] == _machine() and not _is_running(int(part["process"]))]
    for path in stale:
        try:
            os.unlink(path)
        except OSError:  # removed meanwhile, or not ours to remove: it is in nobody's way
            continue


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # of another user; a number that no process has, so none of ours
        return True
    return True


@cache
def _machine() -> str:
    """Letters for the machine, or the container, within which a process number means one process."""
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        numbering = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text as UTF-8; the file is always whole."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def size_text(size: int) -> str:
    """A count of bytes in the unit that suits it: "312 bytes", "4.5 kB", "12.0 MB" (powers of 1000)."""
    for unit, bytes_in_it in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.9995 * bytes_in_it:
            return f"{size / bytes_in_it:.1f} {unit}"
    return f"{size} bytes"


def arrays_digest(arrays: Mapping[str, Any]) -> str:
    """sha256, in hexadecimal, of names, dtypes, shapes and bits, whatever the order of the mapping."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass
class Contents:
    """All that is in a small HDF5 file.

    kind, version : its header
    attributes : name -> number or text
    arrays : name -> array; a text or number for a dataset without axes; "GROUP/NAME" within a group
    """

    path: Path
    kind: str
    version: int
    attributes: dict[str, Any]
    arrays: dict[str, Any]

    def attribute(self, name: str) -> Any:
        """An attribute; ValueError where there is none."""
        return self._get(self.attributes, name)

    def array(self, name: str) -> Any:
        """An array; ValueError where there is none."""
        return self._get(self.arrays, name)

    def group(self, name: str) -> dict[str, Any]:
        """The arrays of a group by name, in the order they were written."""
        return {key.removeprefix(f"{name}/"): array for key, array in self.arrays.items() if key.startswith(f"{name}/")}

    def _get(self, found: dict[str, Any], name: str) -> Any:
        if name not in found:
            raise ValueError(f"{self.path}: damaged ({name} is missing): make it again")
        return found[name]


def write_hdf5(path: str | os.PathLike, kind: str, version: int, attributes: Mapping[str, Any],
               arrays: Mapping[str, Any]) -> None:
    """Write a small HDF5 file; `path` is always whole.  Arguments as in `Contents`, texts as str.

    Raises FileNotFoundError, IsADirectoryError, see `check_folder`.
    """
    import h5py

    with replacing(path) as beside:
        with Hdf5Output(beside, userblock_size=_USER_BLOCK) as output:
            file = output.file
            file.attrs.update({"format": kind, "version": version, **attributes})
            for name, value in arrays.items():
                group, _, own = name.rpartition("/")
                place = file if not group else file.get(group) or file.create_group(group, track_order=True)
                array = np.asarray(value)
                if array.dtype.kind in "UO":
                    place.create_dataset(own, data=array.astype(object), dtype=h5py.string_dtype("utf-8"))
                else:
                    place.create_dataset(own, data=array)
        seal(beside)


def seal(path: str | os.PathLike) -> None:
    """State in the user block of an HDF5 file the sha256 of what follows it."""
    with open(path, "rb+") as file:
        stated = _SEAL + _sealed_digest(file) + b"\n"
        file.seek(0)
        file.write(stated)


def read_hdf5(path: str | os.PathLike, versions: Mapping[str, int],
              unsealed: Collection[tuple[str, int]] = ()) -> Contents:
    """Read and verify a small HDF5 file.

    versions : the kinds that are expected -> the latest version of each
    unsealed : (kind, version) of old files that were not sealed

    Raises
    ------
    FileNotFoundError : no such file.
    ValueError : it is no HDF5 file, damaged, of another kind, or of a newer version.
    """
    path = Path(path)
    sealed = path.is_file() and _is_sealed(path)
    with open_hdf5(path, versions) as file:
        try:
            attributes, arrays = dict(file.attrs.items()), _arrays(file)
        except _UNREADABLE as error:
            raise _damaged(path, error) from error
    kind, version = attributes["format"], int(attributes["version"])
    if not sealed and (kind, version) not in unsealed:
        raise _damaged(path, "it does not state its sha256")
    return Contents(path, kind, version, attributes, arrays)


def open_hdf5(path: str | os.PathLike, versions: Mapping[str, int], **options: Any) -> Any:
    """An open h5py.File whose header is as expected.  See `read_hdf5`; options are for h5py.File."""
    import h5py

    path = Path(path)
    expected = " or ".join(map(repr, versions))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, expected one of format {expected}")
    try:
        if path.is_dir() or not h5py.is_hdf5(path):
            raise ValueError(f"{path}: not an HDF5 file, expected one of format {expected}")
        file = h5py.File(path, "r", **options)
    except OSError as error:
        raise _damaged(path, error) from error
    try:
        kind, version = file.attrs.get("format"), file.attrs.get("version")
        problem = _wrong_header(kind, version, versions)
    except _UNREADABLE as error:
        file.close()
        raise _damaged(path, error) from error
    if problem:
        file.close()
        raise ValueError(f"{path}: {problem}")
    return file


def _wrong_header(kind: Any, version: Any, versions: Mapping[str, int]) -> str:
    """What is wrong with a header, or nothing."""
    if not isinstance(kind, str) or kind not in versions:
        return f"its format is {kind!r}, expected {' or '.join(map(repr, versions))}"
    if not isinstance(version, int | np.integer) or version < 1:
        return f"damaged (its version is {version!r}): make it again"
    if version > versions[kind]:
        return f"version {version}, this package reads up to {versions[kind]}: update sparsenet"
    return ""


def _damaged(path: Path, reason: Exception | str) -> ValueError:
    words = reason if isinstance(reason, str) else reason.args[0] if reason.args else type(reason).__name__
    return ValueError(f"{path}: cut short or damaged ({words}): make it again")


def _is_sealed(path: Path) -> bool:
    """Whether the file states its sha256.  Raises ValueError where that is another."""
    with open(path, "rb") as file:
        stated = file.read(_USER_BLOCK)
        if not stated.startswith(_SEAL):
            return False
        if stated != (_SEAL + _sealed_digest(file) + b"\n").ljust(_USER_BLOCK, b"\0"):
            raise _damaged(path, "its sha256 is not the one that it states")
    return True


def _sealed_digest(file: BinaryIO) -> bytes:
    file.seek(_USER_BLOCK)
    return hashlib.file_digest(file, "sha256").hexdigest().encode()


def _arrays(file: Any) -> dict[str, Any]:
    """Datasets of a file and of its groups by name."""
    import h5py

    arrays = {}
    for name, item in file.items():
        inside = {f"{name}/{own}": part for own, part in item.items()} if isinstance(item, h5py.Group) else {name: item}
        for place, dataset in inside.items():
            text = h5py.check_string_dtype(dataset.dtype) is not None
            arrays[place] = dataset.asstr()[()] if text else dataset[()]
    return arrays
