"""Compilation is announced once, before it begins, and not if kernels come from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numba

import sparsenet
from sparsenet.kernels.cpu.compiling import compilation_announced

SCRIPT = """
import numba
from sparsenet.kernels.cpu.compiling import compilation_announced

@numba.njit(cache=True)
def one_more(x):
    return x + 1

with compilation_announced(lambda: print("compiling")):
    print(one_more(1))
"""


def test_it_is_told_once_from_whichever_thread_and_only_within_the_block():
    @numba.njit
    def one_more(x):
        return x + 1

    told = []
    with compilation_announced(lambda: told.append(len(one_more.signatures))):
        thread = threading.Thread(target=one_more, args=(1,))
        thread.start()
        thread.join()
        one_more(1.5)
    assert told == [0]  # before the first of two
    one_more(1j)
    assert told == [0]


def test_nothing_is_told_if_there_is_nothing_to_compile():
    @numba.njit
    def one_more(x):
        return x + 1

    one_more(1)
    told = []
    with compilation_announced(lambda: told.append(1)):
        one_more(2)
    assert told == []


def test_what_comes_from_the_cache_is_not_compiled(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
                   "PYTHONPATH": str(Path(sparsenet.__file__).parents[1])}
    printed = [subprocess.run([sys.executable, tmp_path / "script.py"], env=environment, capture_output=True, text=True,
                              timeout=120, check=True).stdout for _ in range(2)]
    assert printed == ["compiling\n2\n", "2\n"]
