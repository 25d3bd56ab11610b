"""The thread pool of the CPU kernels, and the limit of BLAS to one thread.

Kernels split their work into blocks whose number and borders depend on sizes alone; `run_blocks`
hands the blocks to the threads.  Which thread runs which block is left to chance and changes no
result.  While blocks run, BLAS is limited to one thread, so two pools never compete, and a
matrix product has the same bits for any number of threads.

A forked child has only the forking thread: it starts without a pool and with locks of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import numpy as np

from sparsenet.kernels.cpu import memory

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_num_threads: int | None = None
_inside = threading.local()


def get_num_threads() -> int:
    """Threads that kernels use on a CPU: `SPARSENET_NUM_THREADS`, or all cores this process may use."""
    global _num_threads
    number = _num_threads
    if number is not None:
        return number
    with _lock:  # a number set meanwhile is kept
        if _num_threads is None:
            _num_threads = _from_environment() or _available_cores()
        return _num_threads


def set_num_threads(number: int) -> None:
    """Set the number of threads of the CPU kernels; results do not depend on it."""
    global _num_threads, _pool
    if number < 1:
        raise ValueError(f"set_num_threads: expected at least 1, got {number}")
    with _lock:
        _num_threads = int(number)
        before, _pool = _pool, None
    if before is not None:
        before.shutdown(wait=True)  # outside the lock, which blocks that still run may take


def run_blocks(function: Callable[[int], None], blocks: int) -> None:
    """Call `function(block)` for block = 0 ... blocks-1, spread over the threads.

    The calling thread takes part.  Called within a block it runs serially.  The first exception of a
    block is raised here after all threads have stopped.  Numbers follow IEEE 754: neither BLAS nor
    Numba warns of NaN and infinity.
    """
    memory.keep()
    threads = min(get_num_threads(), blocks)
    if threads <= 1 or getattr(_inside, "block", False):
        with np.errstate(all="ignore"):
            for block in range(blocks):
                function(block)
        return
    tickets = count()  # next() is atomic

    def work() -> None:
        _inside.block = True
        try:
            with np.errstate(all="ignore"):
                while (block := next(tickets)) < blocks:
                    function(block)
        finally:
            _inside.block = False

    others = _submit(work, threads - 1)
    try:
        work()
    finally:  # threads that have not begun are not needed any more
        errors = [future.exception() for future in others if not future.cancel()]
    for error in errors:
        if error is not None:
            raise error


def run_rows(function: Callable[[int, int], None], rows: int, step: int) -> None:
    """Call `function(start, stop)` for the rows 0 to step - 1, step to 2 * step - 1 ... below `rows`, spread over the
    threads as `run_blocks` does; `start // step` is the number of the block."""
    run_blocks(lambda block: function(block * step, min((block + 1) * step, rows)), -(-rows // step))


@contextmanager
def serial() -> Iterator[None]:
    """Context manager: `run_blocks` on this thread uses this thread alone (for loader workers, which
    are threads themselves)."""
    before = getattr(_inside, "block", False)
    _inside.block = True
    try:
        yield
    finally:
        _inside.block = before


def _submit(work: Callable[[], None], times: int) -> list[Future]:
    global _pool
    threads = get_num_threads()
    with _lock:  # until all are submitted, so that `set_num_threads` does not close the pool in between
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="sparsenet")
        return [_pool.submit(work) for _ in range(times)]


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: the cores that taskset and containers allow
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _from_environment() -> int | None:
    text = os.environ.get("SPARSENET_NUM_THREADS")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"SPARSENET_NUM_THREADS is {text!r}, expected a positive whole number")
    return int(text)


class _SingleThreadedBlas:
    """Counts the users of BLAS on one thread: the first sets the limit, the last restores it."""

    def __init__(self) -> None:
        self.users = 0  # of whom _inside.blas are on this thread
        self.controller = None
        self.limiter = None

    def __enter__(self) -> None:
        with _lock:
            self.users += 1
            if self.users == 1:
                if self.controller is None:
                    from threadpoolctl import ThreadpoolController

                    self.controller = ThreadpoolController()
                self._let_this_thread()
                limiter = self.controller.limit(limits=1, user_api="blas")
                if self.limiter is None:  # one left by a fork has the original limits
                    self.limiter = limiter
            _inside.blas = getattr(_inside, "blas", 0) + 1

    def __exit__(self, *error: object) -> None:
        with _lock:
            _inside.blas -= 1
            self.users -= 1
            if self.users == 0:
                self._let_this_thread()
                self.limiter.restore_original_limits()
                self.limiter = None
                self._let_this_thread()  # and any other thread from here on

    def _let_this_thread(self) -> None:
        """threadpoolctl 3.8 lets only the first thread set OpenBLAS's threads and ignores others silently."""
        for library in self.controller.lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)


_blas = _SingleThreadedBlas()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Context manager: NumPy's matrix products run on the calling thread alone."""
    with _blas:
        yield


def _after_fork() -> None:
    """In the child: forget the other threads, which may have held the lock, blocks and the limit of BLAS.

    Their limit stays until the child's own next use of it ends: restoring it starts BLAS's threads.
    """
    global _lock, _pool
    _lock = threading.Lock()
    _pool = None
    _blas.users = getattr(_inside, "blas", 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
