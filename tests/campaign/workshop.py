"""Shared by the campaigns: running commands as processes, and comparing files bit for bit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SMALL = ("data.parametric_train=8", "data.parametric_test=4", "data.render_size=14", "network.channels=[4,8,12]",
         "training.batch_size=16")


def command(name: str, *arguments: object) -> list[str]:
    """The words that run `sparsenet NAME`."""
    return [sys.executable, "-P", "-m", "sparsenet", name, *map(str, arguments)]


def settings(*changes: str) -> list[str]:
    """`--set` before each of them."""
    return [word for change in changes for word in ("--set", change)]


def environment() -> dict[str, str]:
    """Commands import the package that this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run(words: list[str], seconds: float = 600) -> subprocess.CompletedProcess:
    """Run a command to its end and keep its output."""
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=seconds, check=False)


def must_run(words: list[str]) -> None:
    """Run a command that must succeed.  Raises RuntimeError with its output if it does not."""
    done = run(words)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[1:])} exits {done.returncode}: {done.stdout}{done.stderr}")


def content_digest(path: Path) -> str:
    """sha256 over names, dtypes, shapes and bits of all arrays of an HDF5 file, times left out."""
    import h5py

    digest = hashlib.sha256()

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(("history/", "running/")):
            value = np.asarray(item[()])
            bits = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
            digest.update(f"{name} {value.dtype} {value.shape}".encode() + bits)

    with h5py.File(path, "r") as file:
        file.visititems(add)
    return digest.hexdigest()


def group_members(group: int) -> list[int]:
    """Processes of a process group that are not zombies (Linux)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry))
    return found


def wait_until_gone(group: int, seconds: float) -> list[int]:
    """Wait for the processes of a group to end; returns those that are left after this many seconds."""
    end = time.monotonic() + seconds
    while (left := group_members(group)) and time.monotonic() < end:
        time.sleep(0.05)
    return left
