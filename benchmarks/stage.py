"""The stages of a GPU campaign: commands with a time limit, their output and outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sparsenet.files import write_text

GRACE = 5  # seconds from a stage's interrupt to its end
MIN_SECONDS = 5  # with less time left, a stage is not started
_LAST_LINES = 3  # of a failed stage's output, printed immediately


@dataclass(frozen=True)
class Stage:
    """A command with a time limit, run in the folder of the checkout.

    command : None if it cannot run, for the reason `why`
    needed : whether all later stages depend on it
    environment : variables set for it; PYTHONPATH is appended to the existing one, after the checkout
    """

    name: str
    command: tuple[str, ...] | None
    seconds: int
    why: str = ""
    needed: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a stage; passed is None if it was left out.

    limit : its time limit in seconds
    """

    name: str
    passed: bool | None
    words: str
    seconds: float = 0.0
    command: str = ""
    limit: float = 0.0


def run_stage(stage: Stage, root: Path, log: Path, seconds: float | None = None) -> Outcome:
    """Run a stage, with its output in `log`.

    At the limit (its own, or `seconds` if that is less) the process and its children are interrupted, as by Ctrl-C,
    so that they report their results so far; GRACE seconds later they are killed.
    """
    limit = stage.seconds if seconds is None else min(stage.seconds, seconds)
    if stage.command is None or limit < MIN_SECONDS:
        words = stage.why if stage.command is None else "no time left"
        write_text(log, f"{words}\n")
        return Outcome(stage.name, None, words)
    words = " ".join(stage.command)
    begun = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        file.write(f"$ {words}\n")
        file.flush()
        try:
            process = subprocess.Popen(stage.command, cwd=root, env=_environment(stage, root), stdout=file,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            file.write(f"{error}\n")
            return Outcome(stage.name, False, f"did not start: {error}", command=words, limit=limit)
        try:
            code = process.wait(timeout=limit)
            ended = "" if code == 0 else f"exit code {code}: {_last_lines(log)}"
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=GRACE)
            ended = f"over its limit of {limit:.0f} s: {_last_lines(log)}"
        finally:
            with suppress(ProcessLookupError):  # none of its children remains
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Outcome(stage.name, not ended, ended, round(time.monotonic() - begun, 1), words, limit)


def _environment(stage: Stage, root: Path) -> dict[str, str]:
    paths = [str(root), *filter(None, (os.environ.get("PYTHONPATH"), stage.environment.get("PYTHONPATH")))]
    return {**os.environ, "PYTHONUNBUFFERED": "1", **stage.environment, "PYTHONPATH": os.pathsep.join(paths)}


def _last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])
