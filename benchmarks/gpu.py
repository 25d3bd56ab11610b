"""The ceilings of a GPU: copy bandwidth, cuBLAS's rate of large matrix products by precision, and the host's time for
a launch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.figures import Results
from benchmarks.timing import Case, Settings, case, interleave
from sparsenet import backend
from sparsenet.kernels import launch

SECTION = "ceilings"
_COPIED = 1 << 29  # bytes of the copied array, far above any cache
_SIDE = 8192  # side of the square matrices
_LAUNCHES = 500  # consecutive launches, fewer than a GPU's queue holds
PRODUCT_OF = {"highest": "float32", "tf32": "tf32", "fp16": "fp16", "bf16": "fp16"}  # BF16 runs at FP16's rate


def measure_ceilings(results: Results, settings: Settings) -> None:
    """Add the section: GB/s read + written, TFLOP/s of float32, TF32 and FP16 products, the host's time for one of
    our launches and one of CuPy's."""
    xp = backend.cupy()
    size, side = (1 << 16, 64) if settings.quick else (_COPIED, _SIDE)
    source, target = xp.ones(size >> 2, np.float32), xp.zeros(size >> 2, np.float32)
    cases: dict[str, Case] = {"copy": case(lambda: target.__setitem__(slice(None), source), None, "cuda")}
    rng = np.random.default_rng(0)
    for name, dtype in (("float32", np.float32), ("tf32", np.float32), ("fp16", np.float16)):
        a, b = (xp.asarray(rng.standard_normal((side, side), np.float32).astype(dtype)) for _ in range(2))
        out = xp.empty((side, side), dtype)
        cases[name] = _product(xp, name, a, b, out)
    if "tf32" in cases and _setter(xp) is None:
        del cases["tf32"]
        results.notes.append("TF32 matrix rate left out: this CuPy has no setting for it")
    little, count = xp.ones((8, 4), np.float32), 3 if settings.quick else _LAUNCHES
    launches = {"our launch": _host_time(xp, lambda: launch("leaky_relu_forward", little, 0.5), count),
                "CuPy's launch": _host_time(xp, lambda: little + little, count)}
    cases |= launches
    times = interleave(cases, settings)
    for name in launches:
        timing = times.pop(name)
        results.add(SECTION, name, "host time", 1e6 * timing.median, "us", spread=timing.spread, better="lower")
    results.add(SECTION, "copy", "rate", 2 * source.nbytes / times.pop("copy").median / 1e9, "GB/s")
    for name, timing in times.items():
        results.add(SECTION, f"matrix product, {name}", "rate", 2 * side**3 / timing.median / 1e12, "TFLOP/s",
                    spread=timing.spread)


def matrix_rate(results: Results, precision: str) -> float | None:
    """FLOP/s of the products with which a precision is compared; None if they were not timed."""
    rate = results.value(SECTION, f"matrix product, {PRODUCT_OF[precision]}", "rate")
    return None if rate is None else 1e12 * rate


def _product(xp: Any, name: str, a: Any, b: Any, out: Any) -> Case:
    one = case(lambda: xp.matmul(a, b, out=out), None, "cuda")

    def run() -> float:
        with _tf32(xp, name == "tf32"):
            return one()

    return run


def _host_time(xp: Any, function: Callable[[], Any], count: int) -> Case:
    """Seconds of host time per launch, for `count` consecutive launches without waiting."""

    def run() -> float:
        xp.cuda.Device().synchronize()
        begun = time.perf_counter()
        for _ in range(count):
            function()
        return (time.perf_counter() - begun) / count

    return run


@contextmanager
def _tf32(xp: Any, enabled: bool) -> Iterator[None]:
    """A context in which cuBLAS's float32 products use TF32, or do not."""
    setter = _setter(xp)
    if setter is None:
        yield
        return
    routines, before = setter, setter.get_compute_type(np.dtype(np.float32))
    routines.set_compute_type(np.dtype(np.float32), routines.COMPUTE_TYPE_TF32 if enabled else
                              routines.COMPUTE_TYPE_FP32)
    try:
        yield
    finally:
        routines.set_compute_type(np.dtype(np.float32), before)


def _setter(xp: Any) -> Any:
    """CuPy's module with this setting, which is not part of its public interface."""
    routines = getattr(getattr(xp, "_core", None), "_routines_linalg", None)
    return routines if hasattr(routines, "set_compute_type") else None
