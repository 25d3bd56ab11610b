"""Kernels that several threads call first, all at once, in a new process with nothing compiled yet."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from kernels.cold_start import CALLS

import sparsenet
from sparsenet.kernels import find, table
from sparsenet.kernels.table import Kernel, Scalar, names

ROOT = Path(sparsenet.__file__).parents[1]
PROGRAM = Path(__file__).with_name("cold_start.py")


def test_every_family_is_started():
    started = {call.partition("/")[0] for call in CALLS}
    assert started == {find(name).modules["cpu"].partition(".")[0] for name in names()}


@pytest.mark.parametrize("family", CALLS)
def test_eight_threads_call_a_family_first(family, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SPARSENET_NUM_THREADS": "2", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, PROGRAM, family], capture_output=True, text=True, check=False, timeout=300,
                          env=environment)
    assert done.stdout == "fine\n", done.stderr


def test_a_kernel_runs_only_once_its_module_is_imported(monkeypatch, tmp_path):
    """A thread that comes while another is halfway through the import waits for it."""
    import sparsenet.kernels as package

    (tmp_path / "slow_family.py").write_text("""
import slow_family_control as control
from sparsenet.kernels.table import find

@find("slow").implementation("cpu")
def _slow(number):
    return _helper(number)

control.halfway.set()
assert control.go_on.wait(20)

def _helper(number):
    return number + 1
""")
    control = type(sys)("slow_family_control")
    control.halfway, control.go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "slow_family_control", control)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    kernel = Kernel("slow", {"cpu": "slow_family"}, "number + 1", {"number": Scalar(int)})
    monkeypatch.setitem(table._KERNELS, "slow", kernel)
    found: list[int] = []

    def work() -> None:
        found.append(find("slow")(1))

    try:
        threads = [threading.Thread(target=work)]
        threads[0].start()
        assert control.halfway.wait(20)
        threads += [threading.Thread(target=work) for _ in range(3)]
        for thread in threads[1:]:
            thread.start()
        threads[1].join(0.2)
        assert found == [] and all(thread.is_alive() for thread in threads)
        control.go_on.set()
        for thread in threads:
            thread.join()
        assert found == [2] * 4
    finally:
        control.go_on.set()
        sys.modules.pop("sparsenet.kernels.slow_family", None)
        vars(package).pop("slow_family", None)


def test_a_module_that_fails_to_import_is_tried_again(monkeypatch):
    kernel = Kernel("half", {"cpu": "half_family"}, "nothing", {})

    def broken(name: str) -> None:
        kernel.implementation("cpu")(lambda: None)
        raise ImportError("no such library")

    monkeypatch.setattr(table.importlib, "import_module", broken)
    for _ in range(2):
        with pytest.raises(ImportError, match="no such library"):
            kernel()
