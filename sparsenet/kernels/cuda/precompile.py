"""Compile every kernel in every variant for the present GPU, so that nothing waits for it later.

    python -m sparsenet.kernels.cuda.precompile

CuPy keeps the results on disk.  Several processes share the work: a variant takes a second or two, and there are
some dozens.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import ModuleType

from sparsenet.backend import cupy
from sparsenet.kernels import find, table
from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.signature import names
from sparsenet.kernels.cuda.source import CudaKernel, CudaSource, sources

Variant = tuple[str, str, tuple[tuple[str, str | int], ...]]  # source, one of its kernels, macros


def cuda_modules() -> list[ModuleType]:
    """The modules of all families that launch CUDA sources: each cuda.py, and what it imports of its family."""
    families = sorted({find(name).modules["cuda"] for name in table.names()})
    for family in families:
        importlib.import_module(f"sparsenet.kernels.{family}")
    folders = tuple(f"sparsenet.kernels.{family.removesuffix('cuda')}" for family in families)
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(folders)]


def variants(architecture: int) -> list[Variant]:
    """What compiles together, once each: all that is listed for GPUs of that number (80 for sm_80) or less."""
    source_of = {name: source for source in sources() for name in names(source.path.read_text(encoding="utf-8"))}
    found: dict[tuple, Variant] = {}
    for module in cuda_modules():
        for name, defines, *least in getattr(module, "VARIANTS", ()):
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


def precompile() -> int:
    """Compile all that the families list; returns how many there were.

    Raises
    ------
    RuntimeError : no CuPy, or no GPU, or a kernel that does not compile: its name and the line.
    """
    return compile_all(variants(int(cupy().cuda.Device().compute_capability)))


def main() -> None:
    try:
        print(f"{precompile()} variants are compiled")
    except RuntimeError as error:
        sys.exit(f"precompile: error: {error}")


if __name__ == "__main__":
    main()
