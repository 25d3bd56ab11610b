"""Exit codes of commands, and one-line errors instead of tracebacks."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from sparsenet.interrupts import has_interrupted, latest_signal, terminable

INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT, 128 + SIGTERM, as shells report
_WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}


def run(main: Callable[[], int | None], name: str | None = None) -> int:
    """Call `main` and return the exit code of the command: `sys.exit(run(main))`.

    Characters missing from the console's encoding are printed as escapes (`\\xfc`).

    Parameters
    ----------
    main : takes no arguments and returns the exit code (None means 0).
    name : name of the command for error messages; default: the file name of `sys.argv[0]`.

    Returns
    -------
    0, or the result of `main`; 1 after a ValueError, OSError or RuntimeError, whose message goes to
    stderr as one line `name: error: ...`; 130 after Ctrl-C, 143 after SIGTERM.  If the reader closes
    the pipe (`| head`), that is not an error.  Other exceptions are bugs and keep their traceback;
    argparse exits with 2 after a wrong command line.
    """
    name = name or Path(sys.argv[0]).stem
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with terminable():
            code = main() or 0
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(name)
    except BrokenPipeError:
        _drop_output()
        return 0
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if _is_interruption(error) or (isinstance(error, ImportError) and has_interrupted()):
            return _interrupted(name)
        if isinstance(error, ImportError):
            raise
        print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        _flush_or_drop()
        return 1


def _interrupted(name: str) -> int:
    code = TERMINATED if latest_signal() == signal.SIGTERM else INTERRUPTED
    # CPython remembers that a KeyboardInterrupt passed through the exec of a text, as in the making of a dataclass, and
    # kills itself by SIGINT at the end; the exec of another text makes it forget.
    exec("")
    print(f"\n{name}: {_WORDS[code]}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Redirect stdout to nowhere, because the interpreter flushes it once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _flush_or_drop() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # a full disk: the error just printed, or an additional one
        _drop_output()


def _is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused the error, as happens during the import of a compiled module."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
