"""Memory of large results: pages are reused, unless the environment disables it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="malloc is left alone but on Linux")

PASSES = """
import resource, numpy as np
from sparsenet.kernels import launch, set_num_threads
from sparsenet.kernels.cpu import memory
set_num_threads(2)
x = np.ones((1 << 18, 64), np.float32)  # 64 MB, 16,384 pages

def faults(passes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(passes):
        launch("leaky_relu_forward", x, 0.5)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

faults(2)
"""
MALLOC = "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"


def run(code: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in (*MALLOC, "SPARSENET_KEEP_MEMORY")}
    environment["NUMPY_MADVISE_HUGEPAGE"] = "0"  # pages of one size, so that they can be counted
    done = subprocess.run([sys.executable, "-c", PASSES + code], capture_output=True, text=True, check=False,
                          timeout=300, env={**environment, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_pages_of_a_result_are_used_for_the_next():
    """At best, since the system may take pages back in between."""
    assert run("print(memory.keep(), min(faults(5) for _ in range(4)) < 1000)") == "True True"


@pytest.mark.parametrize("variables", [{"SPARSENET_KEEP_MEMORY": "0"}, {"MALLOC_MMAP_THRESHOLD_": "131072"}],
                         ids=["ours", "malloc's own"])
def test_the_environment_leaves_malloc_alone(variables):
    """Each pass maps its pages anew; several of them may lie in one huge page."""
    kept, faults = run("print(memory.keep(), faults(5))", **variables).split()
    assert kept == "False" and int(faults) >= 5 * 32


def test_release_returns_what_no_array_uses():
    assert run("del x; before = resident(); memory.release(); print(before - resident() > 50 << 20)") == "True"


def test_a_wrong_value_is_named():
    with pytest.raises(AssertionError, match="SPARSENET_KEEP_MEMORY is 'off', expected 0 or 1"):
        run("", SPARSENET_KEEP_MEMORY="off")
