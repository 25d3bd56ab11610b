"""Handling of Ctrl-C and SIGTERM.

SIGTERM, which batch systems and containers send before killing a process, is treated like Ctrl-C: it raises
KeyboardInterrupt, and `latest_signal` says which of the two it was.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_latest_signal = signal.SIGINT  # the signal of the latest KeyboardInterrupt
_raised: int | None = None  # the signal for which `terminable` has raised a KeyboardInterrupt


def latest_signal() -> signal.Signals:
    """The signal of the latest KeyboardInterrupt: SIGINT (Ctrl-C) or SIGTERM."""
    return _latest_signal


@contextmanager
def terminable() -> Iterator[None]:
    """A context in which Ctrl-C and SIGTERM raise KeyboardInterrupt, unless other code handles or ignores them."""
    global _raised
    _noted(signal.SIGINT)
    _raised = None
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    own = [number for number, handler in defaults.items() if _is_main_thread() and signal.getsignal(number) == handler]
    for number in own:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        # Once a signal is ending the program, another one would only disturb its last steps.
        for number in own:
            signal.signal(number, defaults[number] if _raised is None else signal.SIG_IGN)


def has_interrupted() -> bool:
    """Whether the latest `terminable` has raised a KeyboardInterrupt, which may since have been lost or replaced."""
    return _raised is not None


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """A context in which the first Ctrl-C or SIGTERM only sets a flag, read by the yielded function; the second
    interrupts immediately.  A signal that was not read is delivered at the end of the block.

    If a KeyboardInterrupt of `terminable` was lost earlier, for example in a destructor, it is raised again at the
    start of the block.  A signal that the program was started to ignore stays ignored.  (Python delivers signals
    only to the main thread: in other threads this does nothing.)
    """
    if not _is_main_thread():
        yield lambda: False
        return
    if _raised is not None:
        raise KeyboardInterrupt
    requested: int | None = None
    read = False

    def request(number: int, _frame: FrameType | None) -> None:
        nonlocal requested
        if requested is not None:
            _interrupt(number, None)
        requested = _noted(number)

    def is_requested() -> bool:
        nonlocal read
        read = requested is not None
        return read

    with _handled_by(request):
        yield is_requested
    if requested is not None and not read:
        signal.raise_signal(requested)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A context that defers Ctrl-C and SIGTERM to its end, for short work that must not be interrupted."""
    if not _is_main_thread():
        yield
        return
    waiting: list[int] = []
    try:
        with _handled_by(lambda number, _frame: waiting.append(number)):
            yield
    finally:
        for number in waiting:
            signal.raise_signal(number)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """A context in which Ctrl-C and SIGTERM call the handler, unless the program was started to ignore them."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)
              if signal.getsignal(number) not in (signal.SIG_IGN, None)}  # None: C code handles it
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupt(number: int, _frame: FrameType | None) -> None:
    global _raised
    _raised = _noted(number)
    raise KeyboardInterrupt


def _noted(number: int) -> int:
    global _latest_signal
    _latest_signal = signal.Signals(number)
    return number
