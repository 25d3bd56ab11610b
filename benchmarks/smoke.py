"""Does each family of kernels on a device match float64 on the CPU?  One verdict per line, in half a minute.

    PASS submanifold 3^3, tf32              error 6.1e-04, limit 4e-03    0.21 s

After a failed part the next ones still run.  If an error (an illegal address) makes the device unusable for the
process, the remaining parts are returned, for another process.  Sizes are small; `pytest -m gpu` is more thorough.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import smoke_parts
from sparsenet import backend
from sparsenet.kernels import get_float32_matmul_precision, set_float32_matmul_precision
from sparsenet.kernels.cuda import tiles

LIMITS = {"highest": 2e-5, "tf32": 4e-3, "fp16": 4e-3, "bf16": 3e-2}  # of the error relative to the largest value
_NETWORK_LIMIT, _HALF_LIMIT = 2e-4, 1e-2
_ALL_BY_WGMMA = {"wgmma_work": 1, "wgmma_architectures": ("sm_90", "any")}  # "any": kernels on the host


@dataclass(frozen=True)
class Part:
    """find_error : device name -> largest error relative to the largest value; limit : its allowed maximum"""

    name: str
    find_error: Callable[[str], float]
    limit: float


def parts() -> list[Part]:
    """All parts, the simplest first."""
    plain = LIMITS["highest"]
    listed = [Part(name, find_error, 0.0) for name, find_error in (
        ("copies to the device and back", smoke_parts.copies), ("hash table", smoke_parts.hash_table),
        ("rulebooks and pairs", smoke_parts.rulebooks), ("segment maxima", smoke_parts.segment_maxima),
        ("rows on unions", smoke_parts.unions), ("voxelized meshes", smoke_parts.meshes),
        ("filled solids", smoke_parts.solids), ("batches of a loader beside", smoke_parts.loader),
        ("dense round trip", smoke_parts.round_trip))]
    listed += [Part("segment sums", smoke_parts.segment_sums, plain), Part("points", smoke_parts.points, plain)]
    for name, layer in smoke_parts.LAYERS.items():
        listed.append(Part(name, partial(smoke_parts.layer_error, layer), plain))
        if layer.multiplies:
            listed += [Part(f"{name}, {precision}", _at(precision, partial(smoke_parts.layer_error, layer)), limit)
                       for precision, limit in LIMITS.items() if precision != "highest"]
    submanifold = partial(smoke_parts.layer_error, smoke_parts.SUBMANIFOLD)
    listed += [Part("sorted rows", _with(submanifold, order_work=1), plain),
               *(Part(f"Hopper's kernels, {precision}", _at(precision, _with(submanifold, **_ALL_BY_WGMMA)),
                      LIMITS[precision]) for precision in ("tf32", "fp16")),
               Part("softmax cross-entropy", smoke_parts.cross_entropy, plain),
               Part("triplet loss", smoke_parts.triplet, plain),
               Part("AdamW", smoke_parts.adam, plain),
               Part("S3DCNN, two steps", smoke_parts.two_steps, _NETWORK_LIMIT),
               Part("S3DCNN, ten times the same bits", smoke_parts.same_bits, 0.0),
               Part("S3DCNN, no sites at all", smoke_parts.empty, 0.0)]
    return listed + [Part("S3DCNN, stored as float16", smoke_parts.half, _HALF_LIMIT)]


def run(chosen: Sequence[Part], device: str, say: Callable[[str], None] = print) -> tuple[list[str], list[str]]:
    """Run each part.  Returns the names of failed parts, and of those not run because the device is unusable."""
    failed: list[str] = []
    for number, part in enumerate(chosen):
        begun = time.perf_counter()
        try:
            error = part.find_error(device)
            passed, words = error <= part.limit, f"error {error:.1e}, limit {part.limit:.0e}"
        except Exception as problem:  # any error fails only this part
            passed, words = False, " ".join("".join(traceback.format_exception_only(problem)).split())[:400]
        say(f"{'PASS' if passed else 'FAIL'} {part.name:<36} {words}  {time.perf_counter() - begun:6.2f} s")
        if not passed:
            failed.append(part.name)
            if _is_lost(device):
                return failed, [one.name for one in chosen[number + 1:]]
    return failed, []


def _is_lost(device: str) -> bool:
    """Whether the process can no longer use the device."""
    try:
        backend.to_device(backend.to_device(np.ones(1, np.float32), device), "cpu")
    except (RuntimeError, MemoryError):  # raised by CuPy for CUDA errors
        return True
    return False


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = get_float32_matmul_precision()
    set_float32_matmul_precision(name)
    try:
        yield
    finally:
        set_float32_matmul_precision(before)


def _at(precision: str, find_error: Callable[[str], float]) -> Callable[[str], float]:
    def at_precision(device: str) -> float:
        with _precision(precision):
            return find_error(device)

    return at_precision


def _with(find_error: Callable[[str], float], **changes: Any) -> Callable[[str], float]:
    """With another table of tiles, such as one that gives small products to kernels meant for large ones."""

    def with_changes(device: str) -> float:
        with tiles.using(replace(tiles.tile_table(), **changes)):
            return find_error(device)

    return with_changes
