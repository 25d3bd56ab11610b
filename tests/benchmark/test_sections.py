"""Sections run, small, on built-in shapes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparsenet.benchmark import SECTIONS, Results, Settings, run
from sparsenet.kernels import get_num_threads

QUICK = Settings(repeats=1, quick=True)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("SPARSENET_DATA", raising=False)


def test_sections_give_their_figures():
    said = []
    threads = get_num_threads()
    names = ["ceilings", "hash", "memory-bound", "memory", "scaling", "voxelizer"]
    results = run(QUICK, names, say=said.append)
    assert get_num_threads() == threads
    assert [line.split(":")[0] for line in said if line != "shapes: reading"] == names
    assert list(results.settings["section_seconds"]) == names
    assert all(figure.value >= 0 for figure in results.figures)
    assert results.value("memory-bound passes", "leaky ReLU, forward", "of copy") > 0
    assert results.value("S3DCNN memory", "render 20", "peak / live") > 1
    assert results.value("hash table", "10,000 keys", "insert") > 0
    assert results.value("voxelizer", "meshes", "count") == 8
    assert any("parametric shapes instead" in note for note in results.notes)


def test_training_sections_give_their_figures():
    results = run(QUICK, ["steps", "pipeline"], say=lambda line: None)
    split = [figure.value for figure in results.of("S3DCNN split") if figure.case == "render 30" and not figure.better]
    assert sum(split) == pytest.approx(100, abs=1)
    assert results.value("S3DCNN cost", "render 30", "dense multiply-adds a sample") == pytest.approx(5654, rel=1e-3)
    assert results.value("S3DCNN cost", "render 30", "multiply-adds a sample") < 200
    assert results.value("S3DCNN pipeline", "parametric shapes, render 20, augmented, 1 worker", "rate") > 0


def test_start_up_is_measured_in_new_processes():
    results = run(QUICK, ["start-up"], say=lambda line: None)
    cold, warm = (results.value("start-up", f"{state} cache", "all") for state in ("cold", "warm"))
    assert cold > warm > 0
    assert results.value("start-up", "cold cache", "functions compiled") > 5


def test_an_unknown_section_is_refused():
    with pytest.raises(ValueError, match="no section 'speed', expected some of ceilings, convolution"):
        run(QUICK, ["speed"])


def test_a_section_of_another_device_is_refused():
    with pytest.raises(ValueError, match="section 'memory' is not measured on cuda"):
        run(Settings(device="cuda"), ["memory"])
    with pytest.raises(ValueError, match="section 'large' is not measured on cpu"):
        run(QUICK, ["large"])


def test_the_tool_writes_and_compares(tmp_path):
    def tool(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, str(ROOT / "tools" / "benchmark.py"), *arguments], capture_output=True,
                              text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)

    path = tmp_path / "cpu.json"
    done = tool("--quick", "--only", "hash", "--peers", "none", "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert "M keys/s" in done.stdout
    assert Results.load(path).sections() == ["hash table"]
    done = tool("--quick", "--only", "hash", "--peers", "none", "--compare", str(path))
    assert done.returncode == 0, done.stderr
    assert "against the committed figures: nothing to compare" in done.stdout
    done = tool("--only", "hash", "--compare", str(tmp_path / "absent.json"))
    assert done.returncode == 1
    assert "absent.json" in done.stderr
    assert set(SECTIONS) <= set(tool("--help").stdout.split())
