"""Atomic writing of files, and HDF5 files that are verified when read.

An HDF5 file of this package has the attributes `format` and `version`, and is sealed: its user block, the
first 512 bytes, which HDF5 ignores, contains the sha256 of the rest.  It is verified before the HDF5 library
opens the file, because a changed byte can crash the library or change numbers.  A dataset written by
another program may lack the seal.  Small files (weights, checkpoints, descriptors, an index) are
written and read at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import reprlib
import secrets
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sparsenet.hdf5 import SIGNATURE, UNREADABLE, check_heaps, check_tree, read_attribute, read_attributes, read_dataset
from sparsenet.hdf5_output import Hdf5Output

_SEAL = b"sparsenet sha256 "
USER_BLOCK = 512  # bytes, the smallest that HDF5 allows
_PART = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})\.(?P<process>\d+)\.[0-9a-f]{8}\.part", re.DOTALL)
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def check_folder(path: str | os.PathLike) -> None:
    """Raise FileNotFoundError, IsADirectoryError or PermissionError if a file at `path` cannot be written."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist: make it")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a file name")
    if not os.access(path.parent, os.W_OK | os.X_OK):  # needed to write a temporary file and rename it
        raise PermissionError(f"{path}: the folder {path.parent} cannot be written to")


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A context that yields the path of a temporary file to write: at the end of the block it is synced to disk
    and renamed to `path`; if the block fails, Ctrl-C included, it is removed.

    Temporary files left in the folder by killed processes of this machine are removed, too.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError : see `check_folder`.
    OSError : the disk is full or cannot be written; the error names `path`.
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
        if str(error.filename) == str(beside):  # the temporary file no longer exists
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # makes the rename survive a power failure; Windows cannot open folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _remove_stale_parts(folder: Path) -> None:
    """Remove temporary files of `replacing` whose process has ended; those of other machines stay."""
    if os.name != "posix":  # elsewhere `os.kill` would end the process
        return
    with os.scandir(folder) as entries:
        stale = [entry.path for entry in entries if (part := _PART.fullmatch(entry.name))
                 and part["machine"] == _machine() and not _is_running(int(part["process"]))]
    for path in stale:
        try:
            os.unlink(path)
        except OSError:  # already removed, or not ours to remove; harmless
            continue


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process, or an impossible number
        return True
    return True


@cache
def _machine() -> str:
    """An identifier of the machine or container in which process numbers are unique."""
    try:
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        numbering = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text as UTF-8, atomically."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def size_text(size: int) -> str:
    """A number of bytes in a suitable unit: "312 bytes", "4.5 kB", "12.0 MB" (powers of 1000)."""
    for unit, bytes_in_it in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= 0.99995 * bytes_in_it:
            return f"{size / bytes_in_it:.1f} {unit}"
    return f"{size} bytes"


def arrays_digest(arrays: Mapping[str, Any]) -> str:
    """sha256, in hexadecimal, of names, dtypes, shapes and bits, independent of the mapping's order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass
class Contents:
    """The contents of a small HDF5 file.

    kind, version : its header
    attributes : name -> bool, int, float, text, array or list of texts
    arrays : name -> array, or str for a scalar text; "GROUP/NAME" within a group
    """

    path: Path
    kind: str
    version: int
    attributes: dict[str, Any]
    arrays: dict[str, Any]

    def attribute(self, name: str, kind: type | None = None, default: Any = None) -> Any:
        """An attribute, or the default if it is missing and a default is given.

        Raises ValueError if it is missing or not of the kind (bool, int, float or str; an int is also a float).
        """
        if default is not None and name not in self.attributes:
            return default
        value = self._get(self.attributes, name)
        if kind is not None and type(value) not in ((int, float) if kind is float else (kind,)):
            raise self.wrong(f"{name} is {reprlib.repr(value)}, expected {_KINDS[kind]}")
        return value

    def array(self, name: str, kinds: str | None = None, ndim: int | None = None) -> Any:
        """An array.  Raises ValueError if it is missing, of another NumPy kind, or has another number of axes."""
        array = self._get(self.arrays, name)
        if kinds is not None and (np.asarray(array).dtype.kind not in kinds or np.ndim(array) != ndim):
            kind = getattr(array, "dtype", type(array).__name__)
            raise self.wrong(f"{name} is {kind} {np.shape(array)}, expected {ndim} axes and a dtype of kind {kinds!r}")
        return array

    def text(self, name: str) -> str:
        """A scalar text."""
        if not isinstance(text := self._get(self.arrays, name), str):
            raise self.wrong(f"{name} is {type(text).__name__} {np.shape(text)}, expected a text")
        return text

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        return self.array(name, "O", 1).tolist()

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The numeric arrays of a group by name, in the order they were written."""
        arrays = {key.removeprefix(f"{name}/"): array for key, array in self.arrays.items() if
                  key.startswith(f"{name}/")}
        for own, array in arrays.items():
            if np.asarray(array).dtype.kind not in "biuf":
                raise self.wrong(f"{name}/{own} has dtype {np.asarray(array).dtype}, expected numbers")
        return arrays

    def finite_group(self, name: str) -> dict[str, np.ndarray]:
        """The same.  Raises ValueError for an array with NaN or infinity, which diverged training produces."""
        arrays = self.group(name)
        for own, array in arrays.items():
            if not np.isfinite(array).all():
                bad = np.count_nonzero(~np.isfinite(array))
                raise ValueError(f"{self.path}: {name}/{own} contains NaN or infinity in {bad} of {np.size(array)} "
                                 "numbers: has the training diverged?")
        return arrays

    def wrong(self, problem: str) -> ValueError:
        """The error for a damaged file."""
        return ValueError(f"{self.path}: damaged ({problem}): make it again")

    def _get(self, found: dict[str, Any], name: str) -> Any:
        if name not in found:
            raise self.wrong(f"{name} is missing")
        return found[name]


def write_hdf5(path: str | os.PathLike, kind: str, version: int, attributes: Mapping[str, Any],
               arrays: Mapping[str, Any]) -> None:
    """Write a small HDF5 file atomically.  Arguments as in `Contents`, texts as str.

    Raises FileNotFoundError, IsADirectoryError or PermissionError, see `check_folder`.
    """
    import h5py

    with replacing(path) as beside:
        with Hdf5Output(beside, userblock_size=USER_BLOCK) as output, output.writing():
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
    """Write the sha256 of an HDF5 file's contents into its user block."""
    with open(path, "rb+") as file:
        stated = _SEAL + _sealed_digest(file) + b"\n"
        file.seek(0)
        file.write(stated)


def seal_of(path: str | os.PathLike) -> str:
    """The sha256 that an HDF5 file states of its contents, unverified; "" if it states none."""
    with open(path, "rb") as file:
        stated = file.read(USER_BLOCK)
    return stated.removeprefix(_SEAL).rstrip(b"\n\0").decode("latin-1") if stated.startswith(_SEAL) else ""


def read_hdf5(path: str | os.PathLike, versions: Mapping[str, int], unsealed: Collection[tuple[str, int]] = (),
              mapped: Collection[str] = (), only: Collection[str] | None = None) -> Contents:
    """Read and verify a small HDF5 file.

    versions : expected kinds -> the latest version of each
    unsealed : (kind, version) of old files without a seal
    mapped : names of arrays to memory-map instead; the file must then stay as it is
    only : names of the arrays to read; default: all

    Raises
    ------
    FileNotFoundError : no such file.
    ValueError : it is not an HDF5 file, is damaged, of another kind or of a newer version.
    """
    path = Path(path)
    with open_hdf5(path, versions) as file:
        kind, version = read_attribute(file, "format"), read_attribute(file, "version")
        if not file.userblock_size and (kind, version) not in unsealed:
            raise _damaged(path, "it has no seal with its sha256")
        try:
            attributes, arrays = read_attributes(file), _arrays(file, path, mapped, only)
        except UNREADABLE as error:
            raise _damaged(path, error) from error
    return Contents(path, kind, version, attributes, arrays)


def open_hdf5(path: str | os.PathLike, versions: Mapping[str, int], **options: Any) -> Any:
    """Open an HDF5 file after verifying its seal (if it has one), header and structure, see `check_tree`.

    See `read_hdf5`; options are for h5py.File, which is returned.
    """
    import h5py

    path = Path(path)
    expected = " or ".join(map(repr, versions))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file, expected one of format {expected}")
    if not path.is_file() or not _is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file, expected one of format {expected}")
    try:
        check_heaps(path)
        file = h5py.File(path, "r", **options)
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    try:
        problem = _wrong_header(file, versions)
        if not problem:
            check_tree(file)
    except UNREADABLE as error:
        file.close()
        raise _damaged(path, error) from error
    if problem:
        file.close()
        raise ValueError(f"{path}: {problem}")
    return file


def hdf5_kind(path: str | os.PathLike) -> str:
    """The kind of a file of this package, by its header alone; "" if it is another file.  Raises FileNotFoundError."""
    import h5py

    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            kind = read_attribute(file, "format")
    except UNREADABLE:
        return ""
    return kind if isinstance(kind, str) else ""


def _wrong_header(file: Any, versions: Mapping[str, int]) -> str:
    """The problem with a header, or ""."""
    kind, version = (read_attribute(file, name) if name in file.attrs else None for name in ("format", "version"))
    if not isinstance(kind, str) or kind not in versions:
        return f"its format is {reprlib.repr(kind)}, expected {' or '.join(map(repr, versions))}"
    if type(version) is not int or version < 1:
        return f"damaged (its version is {reprlib.repr(version)}): make it again"
    if version > versions[kind]:
        return f"version {version}, this package reads up to {versions[kind]}: update sparsenet"
    return ""


def _damaged(path: Path, reason: Exception | str) -> ValueError:
    words = reason if isinstance(reason, str) else reason.args[0] if reason.args else type(reason).__name__
    return ValueError(f"{path}: truncated or damaged ({words}): make it again")


def _is_hdf5(path: Path) -> bool:
    """Whether it is an HDF5 file.  Raises ValueError if its seal does not match."""
    with open(path, "rb") as file:
        stated, signature = file.read(USER_BLOCK), file.read(len(SIGNATURE))
        if not stated.startswith(_SEAL):
            if signature == SIGNATURE and not stated.startswith(SIGNATURE):
                raise _damaged(path, "its seal is not readable")
            return stated.startswith(SIGNATURE)
        if stated != (_SEAL + _sealed_digest(file) + b"\n").ljust(USER_BLOCK, b"\0"):
            raise _damaged(path, "its sha256 does not match its seal")
    return signature == SIGNATURE


def _sealed_digest(file: BinaryIO) -> bytes:
    file.seek(USER_BLOCK)
    return hashlib.file_digest(file, "sha256").hexdigest().encode()


def _arrays(file: Any, path: Path, mapped: Collection[str], only: Collection[str] | None) -> dict[str, Any]:
    """The datasets of a file and of its groups, by name; see `read_hdf5`."""
    import h5py

    arrays: dict[str, Any] = {}
    for name, item in file.items():
        inside = {f"{name}/{own}": part for own, part in item.items()} if isinstance(item, h5py.Group) else {name: item}
        arrays |= {key: _mapped(dataset, path) if key in mapped else read_dataset(dataset)
                   for key, dataset in inside.items() if only is None or key in only}
    return arrays


def _mapped(dataset: Any, path: Path) -> Any:
    """The values of a dataset of numbers where they are in the file; read, if there are none.

    Raises ValueError if they are not numbers in one piece.
    """
    if not dataset.size and dataset.dtype.kind in "biuf":
        return read_dataset(dataset)
    if dataset.dtype.kind not in "biuf" or dataset.id.get_offset() is None:
        raise ValueError(f"{dataset.name.lstrip('/')} is not numbers in one piece, which alone can be memory-mapped")
    return np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)
