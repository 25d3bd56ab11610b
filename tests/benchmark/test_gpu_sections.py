"""Sections of the device "cuda", small, with CUDA sources run on the host: so that what runs for a few minutes on a
GPU does not end there with a misspelt name.  The figures mean nothing."""

from __future__ import annotations

from functools import partial

import pytest
from cuda_host import cupy_of_numpy

from sparsenet.benchmark import (
    SECTIONS,
    Results,
    Settings,
    convolution,
    passes,
    report,
    run,
    steps,
    timing,
    training,
    workloads,
)

QUICK = Settings(repeats=1, quick=True, device="cuda")
ON_GPU = [name for name, (*_, devices) in SECTIONS.items() if "cuda" in devices]


@pytest.fixture(autouse=True)
def host(monkeypatch, host_driver):
    """The device, a network of few channels, and few repeats."""
    monkeypatch.delenv("SPARSENET_DATA", raising=False)
    monkeypatch.setattr(timing, "COVER_SIDE", 8)
    monkeypatch.setattr(training, "BATCH_OF_QUICK", 1)
    monkeypatch.setattr(steps, "IN_A_ROW", 1)
    monkeypatch.setattr(steps, "s3dcnn", partial(steps.s3dcnn, channels=(4, 4, 4, 4, 4, 4)))
    with cupy_of_numpy.installed(host_driver):
        yield


def measured(*names: str) -> Results:
    return run(QUICK, names, say=lambda line: None)


def test_the_sections_there_are():
    assert ON_GPU == ["ceilings", "convolution", "hash", "large", "layers", "memory-bound", "steps", "scaling",
                      "pipeline", "voxelizer"]


def test_ceilings_and_passes_that_are_compared_with_them(monkeypatch):
    some = {name: passes.PRECISIONS[name] for name in ("float32", "float16 stored")}
    monkeypatch.setattr(passes, "PRECISIONS", some)
    results = measured("ceilings", "large")
    assert results.machine["gpu"] == "NumPy" and results.machine["compute capability"] == "9.0"
    assert results.value("ceilings", "copy", "rate") > 0
    assert all(results.value("ceilings", name, "host time") > 0 for name in ("our launch", "CuPy's launch"))
    assert results.value("large convolution", "sites", "pairs") > 1000
    for precision in ("float32", "float16 stored"):
        for name in passes.PASSES:
            place = "large convolution", f"8 -> 8, {precision}"
            assert results.value(*place, name) > 0 and results.value(*place, f"{name}, rate") > 0
            assert results.value(*place, f"{name}, of matrix rate") > 0
    assert any("TF32 matrix rate left out" in note for note in results.notes)
    assert "of matrix rate" in report.text(results)


def test_hash_table_and_pooling_and_losses():
    results = measured("hash", "memory-bound")
    assert results.find("hash table", "500 keys", "insert").goal == 2000
    assert results.value("memory-bound passes", "max-pooling, backward", "of copy") > 0


def test_convolution_at_the_workloads(monkeypatch):
    monkeypatch.setattr(convolution, "WORKLOADS", convolution.WORKLOADS[2:3])
    monkeypatch.setattr(workloads, "SITES", 200)
    results = measured("convolution")
    assert results.value("convolution", "2^3 stride 2, random", "rulebook") > 0


def test_layers_of_the_network(monkeypatch):
    monkeypatch.setattr(passes, "LAYER_PRECISIONS", ("tf32",))
    monkeypatch.setattr(steps, "s3dcnn", partial(steps.s3dcnn, channels=(4, 8)))
    results = measured("layers")
    assert results.value("S3DCNN convolutions", "layer 2: 4 -> 8, tf32", "weight gradient") > 0


def test_training_steps():
    results = measured("steps")
    rate = results.find("S3DCNN steps", "render 4", "prepared")
    assert rate.value > 0 and rate.goal is None
    assert results.value("S3DCNN steps", "render 4", "step: our launches") > 50
    assert results.value("S3DCNN steps", "render 4", "rulebooks: waits") == 11


def test_epochs_with_the_loader():
    results = measured("pipeline", "scaling")
    assert results.value("S3DCNN pipeline", "parametric shapes, render 3, augmented, 1 worker", "rate") > 0
    assert results.value("S3DCNN scaling", "batch 4", "rate") > 0


def test_the_voxelizer():
    results = measured("voxelizer")
    assert results.value("voxelizer", "render 20, augmented", "GPU, 8 at once") > 0
