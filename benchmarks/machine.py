"""The machine and its ceilings, copy bandwidth and matrix rate, measured in the run."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu
from benchmarks.figures import Results
from benchmarks.timing import Settings, case, interleave
from sparsenet import backend
from sparsenet.kernels import get_num_threads
from sparsenet.kernels.cpu.threads import run_blocks, single_threaded_blas

SECTION = "ceilings"
_LARGE = "sgemm 20000x864x64"
_COPIED = 64 << 20  # bytes of the copied array, far above any cache
_BLOCK_ROWS = 1024
PACKAGES = ("numpy", "numba", "llvmlite", "h5py", "threadpoolctl", "cupy-cuda12x", "cupy-cuda13x")


def describe(device: str) -> dict[str, Any]:
    """Processor, cores, memory, load, and the versions of the package's dependencies."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "threads": get_num_threads(),
        "load": [round(number, 2) for number in os.getloadavg()] if hasattr(os, "getloadavg") else [],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "blas": _blas(),
    }
    for name in PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if device == "cuda":
        runtime = backend.cupy().cuda.runtime
        properties = runtime.getDeviceProperties(0)
        facts["gpu"] = gpu_name()
        facts["compute capability"] = f"{properties['major']}.{properties['minor']}"
        facts["gpu memory"] = f"{properties['totalGlobalMem'] / 2**30:.0f} GiB"
        facts["cuda"] = f"runtime {runtime.runtimeGetVersion()}, driver {runtime.driverGetVersion()}"
    return facts


def gpu_name() -> str:
    """The name of the first GPU."""
    return backend.cupy().cuda.runtime.getDeviceProperties(0)["name"].decode()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _blas() -> str:
    from threadpoolctl import threadpool_info

    return ", ".join(f"{pool['internal_api']} {pool.get('version')} ({pool.get('architecture', '')})"
                     for pool in threadpool_info() if pool["user_api"] == "blas")


def measure_ceilings(results: Results, settings: Settings) -> None:
    """Measure copy bandwidth (bytes read + written) and sgemm rates, on one thread and on all, or on a GPU."""
    if settings.device == "cuda":
        gpu.measure_ceilings(results, settings)
        return
    source = np.ones((_COPIED >> 2) // (8 if settings.quick else 1), np.float32)
    target = np.zeros_like(source)
    rows = 20_000
    rng = np.random.default_rng(0)
    shapes = {"sgemm 20000x32x64": (rows, 32, 64), _LARGE: (rows, 864, 64)}
    operands = {name: tuple(rng.standard_normal(shape, np.float32) for shape in ((m, k), (k, n), (m, n)))
                for name, (m, k, n) in shapes.items()}

    def alone(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        with single_threaded_blas():
            np.matmul(a, b, out=out)

    threads = get_num_threads()
    cases = {"copy": case(lambda: copy(source, target))}
    for name, arrays in operands.items():
        cases[f"{name}, 1 thread"] = case(lambda arrays=arrays: alone(*arrays))
        cases[f"{name}, BLAS threads"] = case(lambda arrays=arrays: np.matmul(*arrays[:2], out=arrays[2]))
        cases[f"{name}, blocks"] = case(lambda arrays=arrays: product(*arrays))
    times = interleave(cases, settings)
    results.add(SECTION, "copy", "rate", 2 * source.nbytes / times["copy"].median / 1e9, "GB/s",
                spread=times["copy"].spread)
    for name, (m, k, n) in shapes.items():
        work = 2 * m * k * n / 1e9
        one = times[f"{name}, 1 thread"]
        variants = [times[f"{name}, BLAS threads"], times[f"{name}, blocks"]]
        best = min(variants, key=lambda timing: timing.median)  # of NumPy's own threads and this package's
        results.add(SECTION, f"{name}, 1 thread", "rate", work / one.median, "GFLOP/s", spread=one.spread)
        results.add(SECTION, f"{name}, {threads} threads", "rate", work / best.median, "GFLOP/s", spread=best.spread)


def sgemm_rate(results: Results) -> float | None:
    """Multiply-adds per second of the large product on all threads; None if the ceilings were not measured."""
    rate = results.value(SECTION, f"{_LARGE}, {get_num_threads()} threads", "rate")
    return None if rate is None else 1e9 * rate / 2


def copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copy source to target, both 1-D, in blocks on all threads."""
    block = 1 << 20

    def part(index: int) -> None:
        chosen = slice(index * block, (index + 1) * block)
        np.copyto(target[chosen], source[chosen])

    run_blocks(part, -(-source.size // block))


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a b, in blocks of rows on all threads, with one single-threaded product per block."""

    def part(index: int) -> None:
        chosen = slice(index * _BLOCK_ROWS, (index + 1) * _BLOCK_ROWS)
        np.matmul(a[chosen], b, out=out[chosen])

    with single_threaded_blas():
        run_blocks(part, -(-a.shape[0] // _BLOCK_ROWS))
