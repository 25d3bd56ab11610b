"""A few mutated stored files of every kind, as the campaign makes them by the thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks a process for each file")


def campaign(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, str(Path(__file__).with_name("stored_files.py")), *arguments],
                          env=environment, capture_output=True, text=True, timeout=300)


def test_mutated_files_are_read_whole_or_refused_in_one_line():
    done = campaign("--count", "108", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "108 files: each was read whole or refused in one line" in done.stdout


def test_the_campaign_tells_what_is_not_refused(tmp_path):
    """The campaign can fail: a reader that lets a changed file of a seal pass, or dies, is found."""
    script = f"""
import sys; sys.argv = ["x", "--count", "12", "--kinds", "weights"]; sys.path.insert(0, {str(Path(__file__).parent)!r})
import stored_files, stored_kinds, os, signal
write, read, sealed = stored_kinds.KINDS["weights"]
stored_kinds.KINDS["weights"] = write, lambda path: path.name.startswith("case") and os.kill(os.getpid(), 11), sealed
died = stored_files.main()
stored_kinds.KINDS["weights"] = write, lambda path: None, sealed
sys.exit(10 * died + stored_files.main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 11, done.stdout + done.stderr
    assert "killed by signal SIGSEGV" in done.stdout
    assert "a sealed file with changed bytes was read" in done.stdout
