"""A lock on a folder or a file for one process at a time, released when the process ends.

The operating system holds the lock.  A killed process leaves the lock file behind but not the lock, so the next
process takes over the file; its content only names the holder.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class LockedError(RuntimeError):
    """Another process, or another thread of this one, is using the same folder or file."""


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """A context that holds the lock of a folder, or of a file that need not exist yet.

    The lock is a file `.lock` in the folder, or `.NAME.lock` beside the file, and is removed at the end.  If the
    file system does not support locks, a RuntimeWarning says so and the block runs without one.

    Raises
    ------
    LockedError : the lock is held; the message names the process and the host.
    FileNotFoundError, PermissionError : the lock file cannot be created.
    """
    path = Path(path)
    name = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    file = _acquire(name, path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
    finally:
        _release(file, name)


def _acquire(name: Path, path: Path) -> TextIO:
    """Open and lock the lock file."""
    while True:
        file = open(name, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115  (stays open while locked)
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                warnings.warn(f"{path}: its file system has no locks: nothing keeps a second process from writing "
                              "there too", RuntimeWarning, stacklevel=5)
                return file
            with file:
                file.seek(0)
                holder = file.read(200).strip() or "another process"
            raise LockedError(f"{path} is in use by {holder}: wait until that ends, or end it") from None
        if _stands_at(file, name):
            return file
        file.close()  # its holder removed it after we opened it: our lock is on a file without a name


def _stands_at(file: TextIO, name: Path) -> bool:
    """Whether the open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(name))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30  # others cannot read a locked byte, so use one far behind the text

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _release(file: TextIO, name: Path) -> None:
        file.close()
        with suppress(PermissionError, FileNotFoundError):  # the next process opened or removed it
            name.unlink()
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(file: TextIO, name: Path) -> None:
        name.unlink(missing_ok=True)  # while still locked, so that no other process has taken it over
        file.close()
