"""Commands under mpirun, whichever MPI it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from command_line import ENVIRONMENT
from extras import mpirun

# Open MPI refuses to run as root, and more processes than cores; MPICH knows none of these.
_OPEN_MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_ALLOW_RUN_AS_ROOT": "1",
             "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
             "OMPI_MCA_rmaps_base_oversubscribe": "1"}
OPTIONS = {"env": {**ENVIRONMENT, **_OPEN_MPI}, "text": True}


def under_mpirun(ranks: int, command: list[str]) -> list[str]:
    """The command as that many processes."""
    return [str(mpirun()), "-n", str(ranks), *command]


def invoke_ranks(ranks: int, command: list[str], **options: Any) -> subprocess.CompletedProcess:
    """Run it to its end; output is text."""
    return subprocess.run(under_mpirun(ranks, command), **{**OPTIONS, "capture_output": True, "timeout": 120,
                                                           "check": False, **options})


def process_of(rank: int, word: str) -> int | None:
    """The process of a rank whose command has this word, by Linux's /proc; None if there is none yet."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        ranks = {f"{name}={rank}".encode() for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK")}
        if os.fsencode(word) in words and ranks & set(environment) and b"mpirun" not in words[0]:
            return int(folder.name)
    return None
