"""Ctrl-C or SIGTERM while a tool still imports: exit code 130 or 143, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Ctrl-C at the import of the module that the first argument names.
SCRIPT = """
import runpy, sys
module, tool = sys.argv[1], sys.argv[2]

class Interrupt:
    def find_spec(self, name, *rest):
        if name == module:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
sys.argv = sys.argv[2:]
runpy.run_path(tool, run_name="__main__")
"""


ARGUMENTS = {"train": ["quickstart"], "evaluate": ["best.h5"], "embed": ["best.h5", "out.h5"],
             "retrieve": ["best.h5", "query.off"],
             "inspect_network": ["--checkpoint", "best.h5", "--mesh", "query.off", "--out", "page.html"],
             "make_dataset": ["builtin", "absent/out.h5"]}


@pytest.mark.parametrize("tool", ARGUMENTS)
@pytest.mark.parametrize("module", ["sparsenet", "its part"])
def test_ctrl_c_while_importing(tool, module, tmp_path):
    if module == "its part":
        module = "sparsenet.data" if tool == "make_dataset" else "sparsenet.training"
    words = [sys.executable, "-c", SCRIPT, module, str(ROOT / "tools" / f"{tool}.py"), *ARGUMENTS[tool]]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                          timeout=60, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends SIGTERM")
@pytest.mark.parametrize("tool", ARGUMENTS)
def test_sigterm_while_importing(tool, tmp_path):
    module = "sparsenet.data" if tool == "make_dataset" else "sparsenet.training"
    script = SCRIPT.replace("raise KeyboardInterrupt", "signal.raise_signal(signal.SIGTERM)")
    words = [sys.executable, "-c", f"import signal\n{script}", module, str(ROOT / "tools" / f"{tool}.py"),
             *ARGUMENTS[tool]]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                          timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, f"\n{tool}: terminated\n")
