"""Announces the compilation of kernels, which takes a while and happens once on a machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sparsenet.backend import get_backend


@contextmanager
def compilation_announced(announce: Callable[[], None]) -> Iterator[None]:
    """Call `announce` before the first kernel that Numba compiles within the block, in whichever thread.

    It is not called if all kernels are loaded from the cache, nor on the reference backend, which compiles nothing.
    """
    if get_backend() is not None:
        yield
        return
    from numba.core import event

    first = threading.Lock()

    class Announcement(event.Listener):
        def on_start(self, _event: Any) -> None:
            if first.acquire(blocking=False):  # never released: once is enough
                announce()

        def on_end(self, _event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Announcement()):
        yield
