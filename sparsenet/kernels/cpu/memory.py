"""Memory for large results on a CPU, used again once the arrays over it are gone.

The system gives memory in pages that it fills with zeros when they are first touched, and takes a large
array's back as soon as it is freed: a kernel that writes a new array of many megabytes pays as much for the
pages as for the pass.  `empty` is `numpy.empty` whose arrays of 2 MB and more are blocks of one range of
addresses, reserved once, of which only what was touched is memory:

    addresses   | block | waits  | block | waits | never touched ...
    array -> its bytes (an array too) -> lease -> block; when the last array over a block is gone, its
    lease dies and the block waits, joined with those that wait beside it

A new block takes the lowest addresses that it fits into, so what waits is used again whatever sizes come.

**Bytes held, those in use and those that wait, never exceed the most that was in use at once** since the
last `release` by more than a quarter, which is what lies unused between blocks: beyond that, what waits
is given back to the system, the highest addresses first.  Whoever is done and wants the memory back calls
`release`.  tracemalloc sees the blocks in use, as it sees NumPy's arrays.

On Linux; elsewhere, where addresses are limited or do not suffice, and where the environment variable
`SPARSENET_MEMORY_POOL` is 0, arrays are NumPy's.  A forked child has a range of its own; its parent's arrays
stay readable in it.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

_LEAST = 1 << 21  # bytes: smaller arrays are NumPy's, and malloc's, which keeps their pages
_STEP = 1 << 18  # bytes: blocks are multiples of it, so at most an eighth is wasted
_SLACK = 4  # held beyond the most in use: one part in
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # named since Python 3.12
_DOMAIN = 0x5350  # tells our blocks from others' in tracemalloc
_CONTAINER = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # its memory: cgroup v2, v1

_track = ctypes.pythonapi.PyTraceMalloc_Track  # both do nothing while tracemalloc does not trace
_track.argtypes = ctypes.c_uint, ctypes.c_size_t, ctypes.c_size_t
_untrack = ctypes.pythonapi.PyTraceMalloc_Untrack
_untrack.argtypes = ctypes.c_uint, ctypes.c_size_t


class Pool:
    """Blocks in use and bytes that wait; any thread may ask, and any may be the one that lets go.

    capacity : addresses to reserve, in bytes; left out: as many as the machine, or its container, has memory
    """

    def __init__(self, capacity: int | None = None) -> None:
        self._lock = threading.Lock()
        self._returned: deque[tuple[int, int]] = deque()  # a lease may die anywhere, also where the lock is held
        self._capacity = capacity
        self._reserved = False
        self._pages: mmap.mmap
        self._bytes: np.ndarray
        self._free: list[list[int]] = []  # [start, end, bytes from the start on that are memory], by address
        self._live = self._most = self._waiting = 0  # bytes: in use, at most in use, free but memory

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array, C-contiguous, whose elements are what was there before.

        From 2 MB on it begins at a page, and its `.base` is an array of bytes.  Raises MemoryError, and ValueError
        where `SPARSENET_MEMORY_POOL` is neither 0 nor 1.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if size < _LEAST:
            return np.empty(shape, dtype)
        rounded = -(-size // _STEP) * _STEP
        start = self._take(rounded)
        if start is None:
            return np.empty(shape, dtype)
        block = self._bytes[start : start + rounded]
        return np.ndarray(shape, dtype, buffer=np.asarray(_Lease(block, start, self._returned.append)))

    def live(self) -> int:
        """Bytes of blocks that arrays are over."""
        with self._lock:
            self._collect()
            return self._live

    def held(self) -> int:
        """Bytes of memory: of those blocks, and what waits."""
        with self._lock:
            self._collect()
            return self._live + self._waiting

    def release(self) -> None:
        """Give all that waits back to the system; the most that was in use starts at what is now."""
        with self._lock:
            self._collect()
            self._most = self._live
            self._trim(self._live)

    def start_afresh(self) -> None:
        """Forget all blocks: what was reserved goes with the last array over it.

        For a forked child: a thread that it does not have may have held the lock, halfway through.
        """
        capacity = self._capacity
        vars(self).clear()
        Pool.__init__(self, capacity)

    def _take(self, size: int) -> int | None:
        """Where a new block of that size starts; None where it fits nowhere."""
        with self._lock:
            self._collect()
            if not self._reserved:
                self._reserve()
            index = next((i for i, (start, end, _) in enumerate(self._free) if end - start >= size), None)
            if index is None:
                return None
            start, end, touched = self._free[index]
            self._free[index : index + 1] = [[start + size, end, max(0, touched - size)]] if start + size < end else []
            self._waiting -= min(touched, size)
            self._live += size
            self._most = max(self._most, self._live)
            self._trim(self._most + self._most // _SLACK)
            return start

    def _reserve(self) -> None:
        size = _addresses() if self._capacity is None else self._capacity
        self._reserved = True
        if size < _LEAST:
            return
        try:
            self._pages = mmap.mmap(-1, size // _STEP * _STEP, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        except OSError:  # arrays are NumPy's then
            return
        if hasattr(mmap, "MADV_HUGEPAGE"):  # as NumPy asks for its large arrays
            with suppress(OSError):  # a system without huge pages
                self._pages.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = np.frombuffer(self._pages, np.uint8)
        self._free = [[0, len(self._pages), 0]]

    def _collect(self) -> None:
        """Join the blocks that were given back to what waits."""
        while self._returned:
            start, size = self._returned.popleft()
            self._live -= size
            self._waiting += size
            end, touched = start + size, size
            index = bisect_left(self._free, [start])
            if index < len(self._free) and self._free[index][0] == end:
                _, end, more = self._free.pop(index)
                touched += more
            if index and self._free[index - 1][1] == start:
                index -= 1
                before, _, first = self._free.pop(index)
                if before + first == start:
                    touched += first
                else:  # only what is touched from the start on is known to be
                    self._drop(start, touched)
                    touched = first
                start = before
            self._free.insert(index, [start, end, touched])

    def _trim(self, most: int) -> None:
        """Give back to the system what is held beyond that many bytes."""
        for extent in reversed(self._free):
            excess = self._live + self._waiting - most
            if excess <= 0:
                break
            start, _, touched = extent
            extent[2] = max(0, touched - excess)
            self._drop(start + extent[2], touched - extent[2])

    def _drop(self, start: int, size: int) -> None:
        """Where the system refuses (locked memory), the bytes stay, but count as given back: they are used again,
        as the addresses are."""
        if size:
            with suppress(OSError):
                self._pages.madvise(mmap.MADV_DONTNEED, start, size)
            self._waiting -= size


class _Lease:
    """Lends a block to the arrays made of it, which keep it alive."""

    __slots__ = ("__array_interface__", "_address", "_block", "_give_back", "_start")

    def __init__(self, block: np.ndarray, start: int, give_back: Callable[[tuple[int, int]], None]):
        self._block, self._start, self._give_back, self._address = block, start, give_back, block.ctypes.data
        self.__array_interface__ = block.__array_interface__
        _track(_DOMAIN, self._address, block.nbytes)

    def __del__(self, untrack: Callable = _untrack, domain: int = _DOMAIN) -> None:
        untrack(domain, self._address)  # names of the module may be gone already when the interpreter ends
        self._give_back((self._start, self._block.nbytes))


def _addresses() -> int:
    """How many to reserve: as many as there is memory; none where addresses are what is scarce."""
    if sys.platform != "linux" or not _wanted():
        return 0
    import resource

    limits = resource.RLIMIT_AS, resource.RLIMIT_DATA  # private memory counts as data
    limited = any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits)
    strict = _read("/proc/sys/vm/overcommit_memory") in (None, "2")
    if limited or strict:
        return 0
    container = [int(text) for path in _CONTAINER if (text := _read(path)) and text.isdigit()]  # or "max"
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *container])


def _wanted() -> bool:
    text = os.environ.get("SPARSENET_MEMORY_POOL") or "1"
    if text not in ("0", "1"):
        raise ValueError(f"SPARSENET_MEMORY_POOL is {text!r}, expected 0 or 1")
    return text == "1"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None


_pool = Pool()
empty, live, held, release = _pool.empty, _pool.live, _pool.held, _pool.release
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.start_afresh)
