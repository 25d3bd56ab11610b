"""Sections of the device "cuda", small, with CUDA sources run on the host: so that what runs for a few minutes on a
GPU does not end there with a misspelt name.  The figures mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import cupy_of_numpy

from benchmarks import (
    SECTIONS,
    Results,
    Settings,
    beside_peers,
    convolution,
    passes,
    report,
    run,
    steps,
    training,
    whole_training,
    workloads,
)

QUICK = Settings(repeats=1, quick=True, device="cuda")
ON_GPU = [name for name, (*_, devices) in SECTIONS.items() if "cuda" in devices]


@pytest.fixture(autouse=True)
def host(monkeypatch, host_driver):
    """The device, a network of few channels, and few repeats."""
    monkeypatch.delenv("SPARSENET_DATA", raising=False)
    monkeypatch.setattr(training, "BATCH_OF_QUICK", 1)
    monkeypatch.setattr(steps, "IN_A_ROW", 1)
    with cupy_of_numpy.installed(host_driver):
        yield


def measured(*names: str) -> Results:
    return run(QUICK, names, say=lambda line: None)


def test_the_sections_there_are():
    assert ON_GPU == ["ceilings", "convolution", "hash", "large", "peers", "layers", "memory-bound", "points", "steps",
                      "resnet", "scaling", "pipeline", "voxelizer", "profile", "wgmma", "modelnet40"]


def test_steps_of_a_resnet_in_a_row():
    results = measured("resnet")
    assert not results.failed
    place = "ResNet steps", "parametric shapes, render 6, batch 1"
    assert results.value(*place, "step in a row") > 0 and results.value(*place, "prepared") > 0
    assert results.value(*place, "step: our launches") > 20


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
        assert 0 < results.value("large convolution", f"8 -> 8, {precision}", "useful") <= 100
        for floor in ("L2 gather", "shared memory", "matrix rate"):
            assert results.value("large convolution", f"8 -> 8, {precision}", f"floor: {floor}") > 0
    assert any("TF32 matrix rate left out" in note for note in results.notes)
    assert "of matrix rate" in report.text(results)


def test_hash_table_and_pooling_and_points():
    results = measured("hash", "memory-bound", "points")
    assert results.find("hash table", "500 keys", "insert").goal == 2000
    assert results.value("memory-bound passes", "max-pooling, backward", "of copy") > 0
    assert results.value("points", "300 points, 3 channels", "at_points, trilinear") > 0


def test_convolution_at_the_workloads(monkeypatch):
    monkeypatch.setattr(convolution, "WORKLOADS", convolution.WORKLOADS[2:3])
    monkeypatch.setattr(workloads, "SITES", 200)
    results = measured("convolution")
    assert results.value("convolution", "2^3 stride 2, random", "rulebook") > 0


def test_layers_of_the_network(monkeypatch):
    monkeypatch.setattr(passes, "LAYER_PRECISIONS", ("tf32",))
    monkeypatch.setattr(steps, "CHANNELS_OF_QUICK", (4, 8))
    results = measured("layers")
    assert results.value("S3DCNN convolutions", "layer 2: 4 -> 8, tf32", "weight gradient") > 0


def test_training_steps():
    results = measured("steps")
    rate = results.find("S3DCNN steps", "render 4", "prepared")
    assert rate.value > 0 and rate.goal is None
    assert results.value("S3DCNN steps", "render 4", "step: our launches") > 30
    assert results.value("S3DCNN steps", "render 4", "rulebooks: waits") == 11


def test_epochs_with_the_loader():
    results = measured("pipeline", "scaling")
    assert results.value("S3DCNN pipeline", "parametric shapes, render 3, augmented, 1 worker", "rate") > 0
    assert results.value("S3DCNN scaling", "batch 4", "rate") > 0


def test_the_voxelizer():
    results = measured("voxelizer")
    assert results.value("voxelizer", "render 20, augmented", "GPU, 8 at once") > 0


def test_where_a_step_spends_its_time():
    results = measured("profile")
    figures = results.of("S3DCNN profile")
    assert results.value("S3DCNN profile", "parametric shapes, render 4: GPU", "convolution_forward") > 0
    assert any(figure.case.startswith("parametric shapes, render 4: host: ") for figure in figures)


def test_a_whole_training():
    results = measured("modelnet40")
    place = "ModelNet40 training", "a few voxels of parametric shapes, 2 epochs"
    assert results.value(*place, "epochs") == 2 and 0 <= results.value(*place, "test accuracy") <= 100
    assert results.value(*place, "200 epochs, extrapolated") > 0


def test_a_training_that_is_interrupted_tells_what_it_has(monkeypatch):
    def interrupted(dataset, out, quick):
        out.mkdir()
        (out / "metrics.csv").write_text("epoch,seconds,samples_per_second\n1,3.5,100\n2,6,300\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(whole_training, "_train", interrupted)
    kept: list[Results] = []
    with pytest.raises(KeyboardInterrupt):
        run(QUICK, ["modelnet40"], lambda line: None, kept.append)
    assert kept[0].value("ModelNet40 training", "a few voxels of parametric shapes, 2 epochs",
                         "200 epochs, extrapolated") == 600


def test_a_training_without_its_data_says_what_to_do():
    results = run(Settings(device="cuda"), ["modelnet40"], lambda line: None)
    assert "make it with tools/gpu_pack.py --modelnet40" in results.failed["modelnet40"]


@pytest.mark.parametrize(("wrong", "told"), [(0.0, ""), (0.1, "wrong by 0.1")])
def test_a_peer_beside_us(monkeypatch, wrong, told):
    class Peer:
        name, label = "spconv", "spconv 2"

        def set_up(self, kind, arrays, precision, c_in, c_out):
            assert kind == "large" and c_in == c_out == 8
            expected = {one: task[0].expected(name) for one, name in (
                ("output", "forward"), ("input_gradient", "input gradient"), ("weight_gradient", "weight gradient"))}
            return {one: value + wrong * np.abs(value).max() for one, value in expected.items()}

        def case(self, name):
            return lambda: 1e6

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    task: list[passes.Task] = []
    plain = passes.Task

    def made(*arguments):
        task.append(plain(*arguments))
        return task[-1]

    monkeypatch.setattr(passes, "Task", made)
    monkeypatch.setattr(beside_peers, "PRECISIONS", {"float32": "float32"})
    monkeypatch.setattr(beside_peers.peers, "available", lambda *_, names: [Peer()])
    results = measured("peers")
    ratio = results.find("beside peers", "8 -> 8, float32", "backward, spconv / ours")
    assert (ratio is None) == bool(told)
    assert ratio is None or (ratio.value > 1 and ratio.goal == 1.5)
    assert any(told in note for note in results.notes) == bool(told)
