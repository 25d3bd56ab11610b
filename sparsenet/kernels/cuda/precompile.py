"""Compile every kernel in every variant for the present GPU, so that nothing waits for it later.

    python -m sparsenet.kernels.cuda.precompile

CuPy keeps the results on disk.  Several processes share the work: a variant takes a second or two, and there are
some dozens.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from sparsenet import kernels
from sparsenet.backend import cupy
from sparsenet.kernels.cuda.signature import names
from sparsenet.kernels.cuda.source import CompileError, CudaKernel, CudaSource, sources

Variant = tuple[str, str, tuple[tuple[str, str | int], ...]]  # source, one of its kernels, macros


def variants(architecture: int) -> list[Variant]:
    """What compiles together, once each: all that is listed for GPUs of that number (80 for sm_80) or less."""
    source_of = {name: source for source in sources() for name in names(source.path.read_text(encoding="utf-8"))}
    found: dict[tuple, Variant] = {}
    for module in pkgutil.walk_packages(kernels.__path__, "sparsenet.kernels."):
        if module.name.startswith("sparsenet.kernels.cuda."):
            continue
        for name, defines, *least in getattr(importlib.import_module(module.name), "VARIANTS", ()):
            source = source_of[name]
            if source.runs_on(architecture) and (not least or least[0] <= architecture):
                macros = tuple(sorted(defines.items()))
                found.setdefault((source.name, macros), (source.name, name, macros))
    return list(found.values())


def variant_of(kernel: CudaKernel) -> Variant:
    """The variant that a kernel is one of."""
    return kernel.source.name, kernel.name, tuple(sorted(kernel.defines.items()))


def compile_variant(variant: Variant) -> None:
    """Compile one, and keep it on disk.  Raises RuntimeError with the compiler's words."""
    from sparsenet.kernels.cuda.driver import CupyDriver

    source, name, macros = variant
    try:
        CupyDriver().load(CudaSource(source).kernel(name, **dict(macros)))
    except CompileError as error:
        raise RuntimeError(str(error)) from None  # one that can go from process to process


def compile_all(listed: Iterable[Variant], processes: int | None = None) -> int:
    """Compile these, in several processes; returns how many there were.

    Raises RuntimeError, which names the kernel and the line.
    """
    with ProcessPoolExecutor(processes or min(16, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        return len(list(pool.map(compile_variant, listed)))


def warm() -> int:
    """Compile all that is listed; returns how many there were.

    Raises
    ------
    RuntimeError : no CuPy, or no GPU, or a kernel that does not compile: its name and the line.
    """
    return compile_all(variants(int(cupy().cuda.Device().compute_capability)))


def main() -> None:
    try:
        print(f"{warm()} variants are compiled")
    except RuntimeError as error:
        sys.exit(f"warm: error: {error}")


if __name__ == "__main__":
    main()
