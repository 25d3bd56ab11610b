"""Ctrl-C or SIGTERM while a command still imports: exit code 130 or 143, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ENVIRONMENT

ROOT = Path(__file__).parents[2]
# Ctrl-C at the import of the module that the first argument names, within the script that the second names.
SCRIPT = """
import os, runpy, sys
module, tool = sys.argv[1], sys.argv[2]

class Interrupt:
    def find_spec(self, name, *rest):
        if name == module:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
sys.argv = sys.argv[2:]
sys.path.insert(0, os.path.dirname(tool))
runpy.run_path(tool, run_name="__main__")
"""


ARGUMENTS = {"train": ["quickstart"], "evaluate": ["best.h5"], "embed": ["best.h5", "out.h5"],
             "search": ["best.h5", "query.off"],
             "inspect": ["--checkpoint", "best.h5", "--mesh", "query.off", "--out", "page.html"],
             "make-dataset": ["builtin", "absent/out.h5"]}
SCRIPTS = {"search": "retrieve", "inspect": "inspect_network", "make-dataset": "make_dataset"}


def script(command):
    """The script in tools/ that runs the command."""
    return str(ROOT / "tools" / f"{SCRIPTS.get(command, command)}.py")


@pytest.mark.parametrize("command", ARGUMENTS)
@pytest.mark.parametrize("module", ["sparsenet", "its part"])
def test_ctrl_c_while_importing(command, module, tmp_path):
    if module == "its part":
        module = "sparsenet.data" if command == "make-dataset" else "sparsenet.training"
    words = [sys.executable, "-c", SCRIPT, module, script(command), *ARGUMENTS[command]]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=60, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends SIGTERM")
@pytest.mark.parametrize("command", ARGUMENTS)
def test_sigterm_while_importing(command, tmp_path):
    module = "sparsenet.data" if command == "make-dataset" else "sparsenet.training"
    program = SCRIPT.replace("raise KeyboardInterrupt", "signal.raise_signal(signal.SIGTERM)")
    words = [sys.executable, "-c", f"import signal\n{program}", module, script(command), *ARGUMENTS[command]]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, f"\nsparsenet {command}: terminated\n")
