"""Functions for worker processes, which import them by name."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection

import numpy as np

from sparsenet.shapes import MeshError


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


class Errands:
    """The desk of a worker of `sparsenet.serve.pool`."""

    def __init__(self, fails_at: str = ""):
        self.fails_at = fails_at
        self.warm = 0

    def warm_up(self) -> None:
        if self.fails_at == "warm_up":
            raise ValueError("it does not get warm")
        self.warm += 1

    def told(self, value: object) -> tuple[object, int, int]:
        return value, self.warm, os.getpid()

    def slept(self, seconds: float) -> None:
        time.sleep(seconds)

    def died(self) -> None:
        os._exit(3)

    def refused(self) -> None:
        raise MeshError("not a mesh")
