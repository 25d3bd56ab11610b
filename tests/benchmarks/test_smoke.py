"""The smoke test: its parts are right on the CPU and on the host, launch every kernel, and fail when they should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda_host import cupy_of_numpy

from benchmarks import smoke, smoke_parts
from benchmarks.smoke import Part
from sparsenet.kernels import counting
from sparsenet.kernels.cuda.signature import names
from sparsenet.kernels.cuda.source import sources
from sparsenet.nn import (
    GELU,
    BatchNorm,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    PReLU,
    Softmax,
    SparseAvgPool,
    SparseConv,
    SparseMaxPool,
    SubmanifoldConv,
)

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "submanifold": smoke_parts.Layer(lambda: SubmanifoldConv(8, 40, 3, rng=0), channels=8, count=40, side=4,
                                     multiplies=True),
    "convolution": smoke_parts.Layer(lambda: SparseConv(5, 8, 2, rng=0), count=40, side=4),
    "depthwise": smoke_parts.Layer(lambda: SubmanifoldConv(5, 10, 3, groups=5, rng=0), count=40, side=4),
    "pooling": smoke_parts.Layer(lambda: SparseMaxPool(3, 2), count=40, side=5),
    "average pooling": smoke_parts.Layer(lambda: SparseAvgPool(3, 2, 1), count=40, side=5),
    "leaky ReLU": smoke_parts.Layer(lambda: LeakyReLU(0.33), count=40, side=4),
    "GELU": smoke_parts.Layer(GELU, count=40, side=4),
    "PReLU": smoke_parts.Layer(lambda: PReLU(5), count=40, side=4),
    "softmax": smoke_parts.Layer(Softmax, count=40, side=4),
    "batch norm": smoke_parts.Layer(lambda: BatchNorm(5), count=40, side=4),
    "group norm": smoke_parts.Layer(lambda: GroupNorm(2, 6), channels=6, count=40, side=4),
    "layer norm": smoke_parts.Layer(lambda: LayerNorm(5), count=40, side=4),
}


@pytest.fixture
def host(host_driver):
    with cupy_of_numpy.installed(host_driver):
        yield


def broken(device: str) -> float:
    raise KeyError("misspelt")


def test_all_parts_pass_on_a_cpu():
    said: list[str] = []
    assert smoke.run(smoke.parts(), "cpu", said.append) == ([], [])
    assert len(said) == len(smoke.parts()) and all(line.startswith("PASS ") for line in said)


def test_all_parts_pass_and_every_kernel_is_launched(host, monkeypatch):
    monkeypatch.setattr(smoke_parts, "LAYERS", SMALL)
    monkeypatch.setattr(smoke_parts, "SUBMANIFOLD", SMALL["submanifold"])
    monkeypatch.setattr(smoke_parts, "CHANNELS", (4, 4, 4, 4))
    monkeypatch.setattr(smoke_parts, "SITES", 40)  # each thread is a fiber
    monkeypatch.setattr(smoke_parts, "TIMES", 2)
    said: list[str] = []
    with counting() as counts:
        assert smoke.run(smoke.parts(), "cuda", said.append) == ([], []), said
    kernels = {kernel for source in sources() for kernel in names(source.path.read_text(encoding="utf-8"))}
    assert kernels == set(counts.launches)


def test_what_fails_does_not_keep_the_next_from_running():
    said: list[str] = []
    listed = [Part("too far", lambda device: 1.0, 0.5), Part("not a number", lambda device: np.nan, 0.5),
              Part("broken", broken, 0.5), Part("fine", lambda device: 0.5, 0.5)]
    assert smoke.run(listed, "cpu", said.append) == (["too far", "not a number", "broken"], [])
    assert [line.split()[0] for line in said] == ["FAIL", "FAIL", "FAIL", "PASS"]
    assert "error 1.0e+00, limit 5e-01" in said[0] and "KeyError: 'misspelt'" in said[2]


def test_what_is_left_when_the_device_is_lost(monkeypatch):
    monkeypatch.setattr(smoke, "_is_lost", lambda device: True)
    listed = [Part("fine", lambda device: 0.0, 0.0), Part("broken", broken, 0.0), Part("left", broken, 0.0)]
    assert smoke.run(listed, "cpu", lambda line: None) == (["broken"], ["left"])


def test_an_error_beyond_the_largest_value_or_not_finite_is_seen():
    assert smoke_parts.relative_error([1.0, 2.0], [1.0, 4.0]) == 0.5
    assert smoke_parts.relative_error([np.nan], [1.0]) == smoke_parts.relative_error([1.0], [1.0, 1.0]) == np.inf
    assert smoke_parts.differences([np.ones(2)], [np.ones(2)]) == 0
    assert smoke_parts.differences([np.ones(2), np.ones(1)], [np.ones(2, np.float32), np.zeros(1)]) == 2


def tool(*arguments: str, driver: str = "host") -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run([sys.executable, str(ROOT / "tools" / "gpu_smoke.py"), *arguments], capture_output=True,
                          text=True, env=environment | {"SPARSENET_DRIVER": driver}, check=False)


def test_the_tool_is_rehearsed_on_the_host():
    done = tool("--only", "hash table", "leaky ReLU")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:2]] == ["PASS", "PASS"]
    assert done.stdout.splitlines()[-1] == "0 of 2 parts failed"


@pytest.mark.parametrize(("arguments", "driver", "code", "words"), [
    (["--only", "speed"], "host", 2, "--only speed: expected some of copies to the device and back, hash table"),
    ([], "quantum", 1, "SPARSENET_DRIVER is 'quantum', expected gpu or host"),
])
def test_what_the_tool_refuses(arguments, driver, code, words):
    done = tool(*arguments, driver=driver)
    assert done.returncode == code and words in done.stderr
