"""tools/tune_tiles.py: needs a GPU, and says so in one line if there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_host import device

from sparsenet.kernels.cuda import tiles

ROOT = Path(__file__).parents[2]


def tune(*arguments):
    return subprocess.run([sys.executable, str(ROOT / "tools" / "tune_tiles.py"), *map(str, arguments)],
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not device.missing(), reason="there is a GPU here")
def test_without_a_gpu_it_ends_with_one_line(tmp_path):
    done = tune(tmp_path / "tiles.toml")
    assert done.returncode == 1 and done.stderr.startswith("tune_tiles: error: device 'cuda'")
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "tiles.toml").exists()


@pytest.mark.gpu
@pytest.mark.skipif(bool(device.missing()), reason=f"nothing to tune for: {device.missing()}")
def test_it_writes_a_table_that_loads(tmp_path):
    done = tune(tmp_path / "tiles.toml", "--precision", "tf32", "--channels", 32, "--rows", 10000, "--candidates", 4)
    assert done.returncode == 0, done.stderr
    table = tiles.load_tile_table(tmp_path / "tiles.toml")
    assert table.forward[0].architecture.startswith("sm_") and table.forward[0].channels == 32
