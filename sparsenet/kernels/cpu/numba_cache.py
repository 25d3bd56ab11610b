"""Compiled functions, and the folder where Numba caches them.

    @compiled                           # numba.njit(nogil=True), kept on disk
    def _forward(x, slope, out): ...

The first place that can be written to is taken: the folder that NUMBA_CACHE_DIR names, `__pycache__` beside the
source, the user's cache folder (these three are Numba's own search), and this user's folder under the system's
temporary folder.  Without any of them functions are compiled in memory, again in each process.  A line on the
standard error, once in a process, tells of the last two, and of a NUMBA_CACHE_DIR that cannot be used.

Numba's cache consists of pickles: reading them runs code.  So a temporary folder is used only if it belongs to this
user and no one else may write to it.

Numba itself compiles a function again if its own file has changed, but not if the file of a function inlined in it
has.  So the names of the files also hold a digest of the sources of all kernels; files of other sources are removed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache

KERNELS = Path(__file__).parents[1]
PYTHON = f"py{sys.version_info.major}{sys.version_info.minor}"  # in the names of Numba's files
_lock = threading.Lock()
_told: set[str] = set()


def compiled(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: the function compiled by Numba at its first call, without the GIL, and kept on disk if possible.

    options : further ones of `numba.njit`
    """
    if function is None:
        return lambda decorated: compiled(decorated, **options)
    dispatcher = njit(nogil=True, **options)(function)
    cache = _cache_of(function)
    if cache is not None:
        dispatcher._cache = cache  # what njit(cache=True) sets, but raises instead of looking further
    return dispatcher


def cache_folder(family: str) -> Path | None:
    """Where the functions of a folder of kernels, such as "voxels", are kept; None if they are compiled in memory."""
    code = cache_folder.__code__.replace(co_filename=str(KERNELS / family / "__init__.py"))
    cache = _cache_of(types.FunctionType(code, globals()))  # Numba asks in which file a function stands
    return None if cache is None else Path(cache.cache_path)


def cache_folders() -> list[Path]:
    """Those of all families, and of what they share; empty if functions are compiled in memory."""
    found = [cache_folder(path.parent.name) for path in sorted(KERNELS.glob("*/__init__.py"))]
    return [folder for folder in found if folder is not None]


def is_kept(family: str) -> bool:
    """Whether functions of a family, such as "voxels", were compiled and kept before."""
    folder = cache_folder(family)
    return folder is not None and any(folder.glob(f"*-{sources_digest()}.{PYTHON}*.nbi"))


@cache
def sources_digest() -> str:
    """Of the paths and contents of all modules of kernels, as they are when it is first asked for."""
    found = hashlib.sha256()
    for path in sorted(KERNELS.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(KERNELS).as_posix()} {len(content)} ".encode() + content)
    return found.hexdigest()[:16]


class _Implementation(CompileResultCacheImpl):
    """The files of one function, with the digest of the sources in their names."""

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        name, dot, python = super().get_filename_base(fullname, abiflags).rpartition(".")
        return f"{name}-{sources_digest()}{dot}{python}"


class _Cache(FunctionCache):
    """Numba's cache of one function; a disk that is full costs the cached copy, not the call."""

    _impl_class = _Implementation

    def save_overload(self, signature: Any, result: Any) -> None:
        try:
            self._remove_other_sources()
            super().save_overload(signature, result)
        except OSError as error:
            _tell(f"compiled kernels cannot be kept in {_shown(self.cache_path)} ({error.strerror})")

    def _remove_other_sources(self) -> None:
        """Remove the cached versions of this function, at any line of its file, that other sources gave."""
        name, python = self._impl.filename_base.rsplit(".", 1)
        function = name.rsplit("-", 2)[0]  # then the line and the digest
        for path in Path(self.cache_path).glob(f"{glob.escape(function)}-*.{python}.*nb[ci]"):
            if f"-{sources_digest()}." not in path.name:
                with suppress(OSError):  # another process was faster, or has it open (Windows)
                    path.unlink()


def _shown(folder: str) -> Path:
    """The part of the path that all families share: one line is enough for all of them."""
    path = Path(folder)
    return path.parent.parent if path.name == "__pycache__" else path.parent


def _cache_of(function: Callable) -> _Cache | None:
    try:
        cache = _Cache(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):  # Numba's words if no folder can be written to
            raise
    else:
        named = config.CACHE_DIR
        if named and Path(named) not in Path(cache.cache_path).parents:
            _tell(f"compiled kernels are kept in {_shown(cache.cache_path)}, since {named} cannot be used")
        return cache
    folder = _temporary_folder()
    if folder is not None:
        with _lock:  # Numba reads the setting while it makes the cache, never later
            before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
            try:
                cache = _Cache(function)
            except RuntimeError:  # it cannot be written to, or NUMBA_CACHE_LOCATOR_CLASSES looks elsewhere
                cache = None
            finally:
                config.CACHE_DIR = before
        if cache is not None:
            _tell(f"compiled kernels are kept in {folder}, since neither the package's folder nor a home can be "
                  "written to")
            return cache
    _tell("kernels are compiled again in each process, since no folder to keep them in can be written to")
    return None


def _temporary_folder() -> Path | None:
    """This user's own folder under the system's temporary folder; None if there is none that can be trusted."""
    try:
        parent = Path(tempfile.gettempdir())
    except FileNotFoundError:  # no temporary folder can be written to
        return None
    own = os.getuid() if hasattr(os, "getuid") else None  # on Windows the temporary folder is the user's
    folder = parent / ("sparsenet-numba" if own is None else f"sparsenet-numba-{own}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()  # of a link itself: it may lead anywhere
    except OSError:
        return None
    mine = own is None or (found.st_uid == own and not stat.S_IMODE(found.st_mode) & 0o077)
    return folder if stat.S_ISDIR(found.st_mode) and mine else None


def _tell(words: str) -> None:
    """One line on the standard error, once; worker processes leave it to the process that started them."""
    with _lock:
        known = words in _told
        _told.add(words)
    if not known and parent_process() is None:
        print(f"sparsenet: {words}: set NUMBA_CACHE_DIR to choose a folder", file=sys.stderr)
