"""How a command-line tool ends: the exit code, one line instead of a traceback, Ctrl-C at a good moment.

SIGTERM, which batch systems and containers send before they kill, is treated as Ctrl-C throughout: a
KeyboardInterrupt, after which the exit code tells the two apart.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT, 128 + SIGTERM: what a shell reports
_WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
_latest_signal = signal.SIGINT  # behind the latest KeyboardInterrupt
_raised: int | None = None  # the signal for which `run` has raised a KeyboardInterrupt


def run(main: Callable[[], int | None], name: str | None = None) -> int:
    """Call `main` and return the exit code of the tool: `sys.exit(run(main))`.

    Characters that the console's encoding lacks are printed as escapes (`\\xfc`).

    Parameters
    ----------
    main : takes no arguments; what it returns is the exit code (None means 0).
    name : of the tool, in front of its error message; by default the file name of `sys.argv[0]`.

    Returns
    -------
    0, or what `main` returned; 1 after a ValueError, OSError or RuntimeError, whose message goes to
    stderr as one line `name: error: ...`; 130 after Ctrl-C, 143 after SIGTERM.  A reader that closed
    the pipe (`| head`) is no error.  Other exceptions are defects of the program and keep their
    traceback; a wrong command line ends with 2, by argparse.
    """
    name = name or Path(sys.argv[0]).stem
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _terminable():
            code = main() or 0
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(name)
    except BrokenPipeError:
        _drop_output()
        return 0
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if _is_interruption(error):
            return _interrupted(name)
        if isinstance(error, ImportError):
            raise
        print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        _flush_or_drop()
        return 1


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C or SIGTERM only sets a flag, which the function that it yields reads; the
    second interrupts at once.  One that nobody has read when the block ends is delivered then.

    If a KeyboardInterrupt of `run` got lost before, as those do that are raised within a destructor, it is raised
    again as the block begins.  A signal that the program was started to ignore stays ignored.  (Python gives
    signals to the main thread alone: elsewhere this does nothing.)
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
    """Within it, for work that is short and must not stop half-way, Ctrl-C and SIGTERM wait until the block ends."""
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
    """Within it Ctrl-C and SIGTERM call the handler, unless the program was started to ignore them."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)
              if signal.getsignal(number) not in (signal.SIG_IGN, None)}  # None: C code handles it
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM raise KeyboardInterrupt, unless somebody else handles or ignores them."""
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
        # Once a signal ends the program, one more has nothing left to end but its last steps.
        for number in own:
            signal.signal(number, defaults[number] if _raised is None else signal.SIG_IGN)


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


def _interrupted(name: str) -> int:
    code = TERMINATED if _latest_signal == signal.SIGTERM else INTERRUPTED
    print(f"\n{name}: {_WORDS[code]}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """The interpreter flushes stdout once more as it ends: give it somewhere to write."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _flush_or_drop() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, which is the error just told, or comes on top of it
        _drop_output()


def _is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C led to the error, as it does within the import of a compiled module."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
