"""Checks that wgmma runs, compiled through CuPy, and measures its rate from shared memory.

This is an upper bound for a convolution that uses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu, reference
from benchmarks.figures import Results
from benchmarks.timing import Settings, case, interleave
from sparsenet.backend import cupy, to_device
from sparsenet.kernels.convolution.cuda import architecture

SECTION, CASE = "wgmma", "m64n128k16, half, both from shared memory"
SOURCE = Path(__file__).with_name("wgmma.cu")
KERNEL = "wgmma_rate"
ARCHITECTURE = "sm_90"
# Added to CuPy's -arch=sm_90: the instructions exist only for this variant.
OPTIONS = ("-std=c++17", "-arch=sm_90a")
SIDE, DEPTH, THREADS = 128, 64, 256
_ROUNDS, _BLOCKS_EACH = 2000, 4  # consecutive multiplications; blocks per multiprocessor
_MULTIPROCESSORS = 16  # CUDA's number of this device attribute
_TOLERANCE = 1e-4


def measure_wgmma(results: Results, settings: Settings) -> None:
    """Add the section: the rate, and its share of cuBLAS's if that was measured.

    Raises RuntimeError if the product is wrong.
    """
    xp = cupy()
    if architecture(xp) != ARCHITECTURE:
        results.notes.append(f"wgmma left out: this GPU is {architecture(xp)}, and only {ARCHITECTURE} has it")
        return
    kernel = xp.RawModule(code=SOURCE.read_text(encoding="utf-8"), options=OPTIONS).get_function(KERNEL)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, DEPTH)).astype(np.float16) for _ in range(2))
    blocks = _BLOCKS_EACH * xp.cuda.runtime.deviceGetAttribute(_MULTIPROCESSORS, 0)
    out = xp.empty((blocks, SIDE, SIDE), np.float32)
    moved = [to_device(one, "cuda") for one in (a, b)]

    def run(rounds: int) -> Any:
        kernel((blocks,), (THREADS,), (*moved, np.int32(rounds), out))

    run(1)
    expected = a.astype(np.float64) @ b.astype(np.float64).T
    reference.check("wgmma", to_device(out[-1], "cpu").astype(np.float64), expected, _TOLERANCE)
    timing = interleave({"rate": case(lambda: run(_ROUNDS), None, "cuda")}, settings)["rate"]
    rate = 2 * SIDE * SIDE * DEPTH * _ROUNDS * blocks / timing.median
    results.add(SECTION, CASE, "rate", rate / 1e12, "TFLOP/s", spread=timing.spread, better="higher")
    ceiling = gpu.matrix_rate(results, "fp16")
    if ceiling is not None:
        results.add(SECTION, CASE, "of matrix rate", 100 * rate / ceiling, "%", better="higher")
