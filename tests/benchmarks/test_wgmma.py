"""The probe of wgmma: it compiles as CuPy compiles it, and checks its product before it is timed."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import cupy_of_numpy, nvrtc

from benchmarks import Results, Settings, run, wgmma

QUICK = Settings(repeats=1, quick=True, device="cuda")


@pytest.mark.extra("kernel-test")
@pytest.mark.parametrize("version", nvrtc.libraries() or ["none"])
def test_it_compiles_beside_cupys_own_architecture(version):
    options = [*wgmma.OPTIONS, *nvrtc.CUPYS, f"-arch={wgmma.ARCHITECTURE}", "--ptxas-options=-v"]
    failed, log = nvrtc.compile_source(nvrtc.libraries()[version], wgmma.SOURCE.read_text(encoding="utf-8"), options)
    assert not failed and "warning" not in log, log
    assert f"'{wgmma.KERNEL}' for 'sm_90a'" in log and "0 bytes spill stores, 0 bytes spill loads" in log


@pytest.fixture
def gpu(host_driver, monkeypatch):
    """A GPU on which the kernel is NumPy's product; `wrong` is added to the result."""
    wrong = [0.0]

    class RawModule:
        def __init__(self, code, options):
            assert "wgmma.mma_async" in code and "-arch=sm_90a" in options

        def get_function(self, name):
            def launch(grid, block, arguments):
                a, b, rounds, out = arguments
                assert name == wgmma.KERNEL and block == (256,) and len(out) == grid[0]
                product = a.get().astype(np.float32) @ b.get().astype(np.float32).T
                out[...] = cupy_of_numpy._to_device(rounds * product + wrong[0])

            return launch

    monkeypatch.setattr(cupy_of_numpy._Module, "RawModule", RawModule)
    monkeypatch.setattr(wgmma, "_ROUNDS", 2)
    with cupy_of_numpy.installed(host_driver):
        yield wrong


def measured() -> Results:
    return run(QUICK, ["wgmma"], say=lambda line: None)


def test_its_rate_is_reported(gpu):
    assert measured().value("wgmma", wgmma.CASE, "rate") > 0


def test_a_wrong_product_is_not_timed(gpu):
    gpu[0] = 1.0
    results = measured()
    assert "wgmma differs from the reference" in results.failed["wgmma"] and not results.figures


def test_another_gpu_leaves_it_out(gpu, monkeypatch):
    monkeypatch.setattr(wgmma, "architecture", lambda xp: "sm_80")
    results = measured()
    assert results.notes == ["wgmma left out: this GPU is sm_80, and only sm_90 has it"]
    assert not results.failed and not results.figures
