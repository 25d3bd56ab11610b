"""`import sparsenet` is light: heavy packages are imported where they are first used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import sparsenet

ROOT = Path(sparsenet.__file__).parents[1]
HEAVY = ("numba", "h5py", "trimesh", "matplotlib", "cupy")
PROGRAM = f"""
import json, os, sys
sys.path.insert(0, {str(ROOT)!r})
import sparsenet
times = os.times()
print(json.dumps([times.user + times.system, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def import_in_a_new_process() -> tuple[float, list[str]]:
    """Seconds of CPU time, the interpreter's start included, and which of HEAVY were imported."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    seconds, imported = json.loads(done.stdout)
    return seconds, imported


def test_import_takes_less_than_a_second_and_nothing_heavy():
    runs = [import_in_a_new_process() for _ in range(3)]  # the first may compile to .pyc
    assert not runs[0][1], f"import sparsenet imports {', '.join(runs[0][1])}: import it in the function that needs it"
    assert min(seconds for seconds, _ in runs) < 1


def test_every_public_name_is_there():
    for module in (sparsenet, sparsenet.ops, sparsenet.nn):
        assert len(set(module.__all__)) == len(module.__all__) > 5
        assert all(hasattr(module, name) for name in module.__all__)
    assert {"concatenate", "stack", "where", "maximum", "minimum"} <= set(sparsenet.__all__)
