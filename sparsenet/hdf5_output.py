"""Writes HDF5 files so that a full disk raises an error instead of crashing.

HDF5 keeps data that it could not write and retries when the file is closed, and again at interpreter
exit, which is a segmentation fault.  So HDF5 writes here to a Python file object that never fails: after
an error the data is kept in memory, the file is closed normally, and then the error is raised.  For the
same reason Ctrl-C is deferred while HDF5 runs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from sparsenet.interrupts import uninterrupted


class Hdf5Output:
    """A new HDF5 file, open for writing in a `with` block; `.file` is the h5py.File.

    Parameters
    ----------
    path : path of the file, which is overwritten
    options : for h5py.File, such as userblock_size

    Raises
    ------
    OSError : from `writing` and at the end of the block, if data could not be written.
    """

    def __init__(self, path: str | os.PathLike, **options: Any):
        import h5py

        with uninterrupted():
            self._disk = _PatientFile(path)
            try:
                self.file = h5py.File(self._disk, "w", **options)
            except BaseException:
                self._disk.close()
                raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context for every use of `.file`: Ctrl-C is deferred to its end, and then any error so far is raised,
        so that long work stops early."""
        with uninterrupted():
            yield
        self._check()

    def _check(self) -> None:
        if self._disk.error is not None:
            raise self._disk.error

    def __enter__(self) -> Hdf5Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with uninterrupted():
            try:
                self.file.close()
            finally:
                self._disk.close()
        if error is None:
            self._check()


class _PatientFile(io.RawIOBase):
    """A file that accepts every byte: after the first error, data stays in memory and can be read back.

    Little is written after an error, because the writer stops: only chunks and metadata that HDF5 still holds.
    """

    def __init__(self, path: str | os.PathLike):
        self._file = io.FileIO(path, "w+")
        self._place = 0
        self._kept: list[tuple[int, bytes]] = []
        self.name = os.fspath(path)
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset if whence == io.SEEK_SET else self._file.seek(offset, whence)
        return self._place

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        try:
            if self.error is None:
                self._write(data)
        except OSError as error:
            error.filename = self.name
            self.error = error
        if self.error is not None:
            self._kept.append((self._place, bytes(data)))
        self._place += len(data)
        return len(data)

    def _write(self, data: memoryview) -> None:
        self._file.seek(self._place)
        while data:
            data = data[self._file.write(data):]

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        start, stop = self._place, self._place + len(target)
        self._file.seek(start)
        found = self._file.read(len(target))
        target[:] = found.ljust(len(target), b"\0")
        for place, data in self._kept:
            low, high = max(start, place), min(stop, place + len(data))
            if low < high:
                target[low - start:high - start] = data[low - place:high - place]
        self._place = stop
        return len(target)

    def truncate(self, size: int | None = None) -> int:
        size = self._place if size is None else size
        try:
            if self.error is None:
                self._file.truncate(size)
        except OSError as error:
            error.filename = self.name
            self.error = error
        return size

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
