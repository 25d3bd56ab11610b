"""Functions for worker processes, which import them by name."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection

import numpy as np


def doubled(task: np.ndarray) -> np.ndarray:
    return 2 * task


def process_number(_task: object) -> int:
    return os.getpid()


_preparations = 0


def prepared() -> None:
    global _preparations
    _preparations += 1


def preparations(_task: object) -> int:
    """How often this process was prepared."""
    return _preparations


def refused(task: int) -> int:
    if task > 2:
        raise ZeroDivisionError(f"task {task}")
    return task


def dead(task: int) -> int:
    if task > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def cut_short(task: int) -> bytes:
    """The first half of its result, as if the process was killed while it sent the rest."""
    def half(pipe: Connection, message: bytes) -> None:
        os.write(pipe.fileno(), len(message).to_bytes(4, "big") + message[:len(message) // 2])
        os._exit(1)

    if task > 2:
        Connection.send_bytes = half
    return bytes(10_000)


def stuck(_task: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def large(_task: object) -> tuple[int, bytes]:
    """More than a pipe holds: sending it waits for the reader."""
    return os.getpid(), bytes(4_000_000)
