"""A GPU, if there is one: `pytest -m gpu` runs every kernel's tests on it (the `backend` fixture), and these."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda_host import device

pytestmark = pytest.mark.gpu
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def gpu():
    if missing := device.missing():
        pytest.skip(f"no kernel was run on a GPU: {missing}")


def test_a_kernel_runs_on_the_gpu():
    x = np.linspace(-1, 1, 101, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(device.launch("leaky_relu_forward", x, 0.5), np.where(x > 0, x, x / 2))


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_compute_sanitizer_finds_nothing(tool):
    """A training step under NVIDIA's own checks: nearly every kernel, on small inputs."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        pytest.skip("compute-sanitizer is not installed")
    done = subprocess.run(
        [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "pytest", "-q",
         "-m", "gpu", "-k", "training_gives", str(TESTS / "cuda" / "test_network.py")],
        cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
