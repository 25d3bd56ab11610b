"""Large arrays get memory whose pages are there already: two settings of glibc's malloc.

By default glibc maps the pages of each large array anew and unmaps them when the array is freed, so a kernel that
writes a result of many megabytes pays as much for the pages, which the system fills with zeros, as for the pass:
a quarter or more of a training step's processor time.  `keep` tells malloc, for the whole process, to serve all sizes
from its heap and not to return the heap's end, so the process goes on holding the memory of its peak; `release`
returns what is unused at the moment.

Left alone: systems without glibc, processes whose environment sets malloc's own variables (`MALLOC_MMAP_MAX_`,
`MALLOC_MMAP_THRESHOLD_`, `MALLOC_TRIM_THRESHOLD_`), and those with `SPARSENET_KEEP_MEMORY=0`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's numbers, from <malloc.h>
_NEVER = -1  # of the threshold: no trimming
_OWN = "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"


@cache
def keep() -> bool:
    """Make malloc keep the memory of large arrays for the next ones; whether it does.

    Raises
    ------
    ValueError : the environment variable `SPARSENET_KEEP_MEMORY` is neither 0 nor 1.
    """
    wanted = os.environ.get("SPARSENET_KEEP_MEMORY") or "1"
    if wanted not in ("0", "1"):
        raise ValueError(f"SPARSENET_KEEP_MEMORY is {wanted!r}, expected 0 or 1")
    library = _glibc()
    if wanted == "0" or library is None or any(name in os.environ for name in _OWN):
        return False
    return library.mallopt(_MMAP_MAX, 0) == 1 and library.mallopt(_TRIM_THRESHOLD, _NEVER) == 1


def release() -> None:
    """Return memory that no array uses to the system, after a large batch for instance."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(ctypes.c_size_t(0))


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
