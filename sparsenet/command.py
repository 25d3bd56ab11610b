"""How a command-line tool ends: the exit code, one line instead of a traceback, Ctrl-C at a good moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C


def run(main: Callable[[], int | None], name: str | None = None) -> int:
    """Call `main` and return the exit code of the tool: `sys.exit(run(main))`.

    Parameters
    ----------
    main : takes no arguments; what it returns is the exit code (None means 0).
    name : of the tool, in front of its error message; by default the file name of `sys.argv[0]`.

    Returns
    -------
    0, or what `main` returned; 1 after a ValueError, OSError or RuntimeError, whose message goes to
    stderr as one line `name: error: ...`; 130 after Ctrl-C.  A reader that closed the pipe (`| head`)
    is no error.  Other exceptions are defects of the program and keep their traceback; a wrong
    command line ends with 2, by argparse.
    """
    name = name or Path(sys.argv[0]).stem
    try:
        code = main() or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more as it ends: give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if _interrupted(error):
            print(f"\n{name}: interrupted", file=sys.stderr)
            return INTERRUPTED
        if isinstance(error, ImportError):
            raise
        print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        return 1


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C only sets a flag, which the function that it yields reads; the second
    interrupts at once.  (Python gives signals to the main thread alone: elsewhere this does nothing.)"""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requested = False

    def request(_signal: int, _frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True

    before = signal.signal(signal.SIGINT, request)
    try:
        yield lambda: requested
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(error: BaseException | None) -> bool:
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
