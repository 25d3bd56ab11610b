"""Does wgmma run here, compiled through CuPy, and how fast is it out of shared memory?

A probe of what a convolution that used it could reach.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu, reference
from benchmarks.figures import Results
from benchmarks.timing import Settings, case, interleave
from sparsenet.backend import cupy, to_device
from sparsenet.kernels.convolution_cuda import architecture

SECTION, CASE = "wgmma", "m64n128k16, half, both from shared memory"
SOURCE = Path(__file__).with_name("wgmma.cu")
KERNEL = "wgmma_rate"
ARCHITECTURE = "sm_90"
# Beside CuPy's own -arch=sm_90: the instructions exist for this variant of it alone.
OPTIONS = ("-std=c++17", "-arch=sm_90a")
SIDE, DEPTH, THREADS = 128, 64, 256
_ROUNDS, _BLOCKS_EACH = 2000, 4  # multiplications in a row; blocks for each multiprocessor
_MULTIPROCESSORS = 16  # an attribute of a device, by CUDA's number
_TOLERANCE = 1e-4


def measure_wgmma(results: Results, settings: Settings) -> None:
    """Adds the section: the rate, and its share of cuBLAS's if that was measured.

    Raises RuntimeError if the product is wrong.
    """
    xp = cupy()
    if architecture(xp) != ARCHITECTURE:
        results.notes.append(f"wgmma left out: this GPU is {architecture(xp)}, and {ARCHITECTURE} alone has it")
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
