"""`sparsenet COMMAND` as a process of its own, with the package that the tests import."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def words(*arguments: object) -> list[str]:
    """The command that starts `sparsenet` with these arguments; -P ignores a package in the current folder."""
    return [sys.executable, "-P", "-m", "sparsenet", *map(str, arguments)]


def invoke(*arguments: object, **options: Any) -> subprocess.CompletedProcess:
    """Run it to its end; output is text.  options : of `subprocess.run`"""
    return subprocess.run(words(*arguments), **{"env": ENVIRONMENT, "capture_output": True, "text": True,
                                                "timeout": 120, "check": False, **options})
