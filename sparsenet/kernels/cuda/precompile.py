"""Compile every kernel in every variant for the current GPU, so that no launch has to wait for the compiler.

    python -m sparsenet.kernels.cuda.precompile

CuPy keeps the results on disk.  Several processes share the work: there are some dozens of variants, and each takes a
second or two.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

from sparsenet.backend import cupy
from sparsenet.interrupts import deferred_interrupt
from sparsenet.kernels import find, table
from sparsenet.kernels.cuda.interface import CompileError
from sparsenet.kernels.cuda.signature import names
from sparsenet.kernels.cuda.source import CudaKernel, CudaSource, Macros
from sparsenet.worker_processes import WorkerDied, map_in_workers

Variant = tuple[str, str, tuple[tuple[str, str | int], ...]]  # source, one of its kernels, macros by name


def cuda_modules() -> list[ModuleType]:
    """The modules of all families that launch CUDA sources: each cuda.py, and the modules of its family that it
    imports."""
    families = sorted({find(name).modules["cuda"] for name in table.names()})
    for family in families:
        importlib.import_module(f"sparsenet.kernels.{family}")
    folders = tuple(f"sparsenet.kernels.{family.removesuffix('cuda')}" for family in families)
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(folders)]


def listed_variants() -> Iterator[tuple[CudaSource, Macros]]:
    """(source, macros) of each variant of the sources of all families: see `CudaSource`."""
    found = {id(value): value for module in cuda_modules() for value in vars(module).values()
             if isinstance(value, CudaSource)}
    for source in found.values():
        yield from ((source, macros) for macros in source.variants or ())


def kernels_of(source: CudaSource) -> list[str]:
    """The names of the kernels of a source."""
    return names(source.path.read_text(encoding="utf-8"))


def variants(architecture: int) -> list[Variant]:
    """The variants for GPUs of an architecture (80 for sm_80), by one kernel each: all kernels of a source compile
    together."""
    return [(source.name, kernels_of(source)[0], _sorted(macros)) for source, macros in listed_variants()
            if source.runs_on(architecture, macros)]


def _sorted(macros: Macros) -> tuple[tuple[str, str | int], ...]:
    return tuple(sorted(macros.items()))


def variant_of(kernel: CudaKernel) -> Variant:
    """The variant of a kernel."""
    return kernel.source.name, kernel.name, _sorted(kernel.defines)


def compile_variant(variant: Variant) -> None:
    """Compile a variant and keep it on disk.  Raises RuntimeError with the compiler's message."""
    from sparsenet.kernels.cuda.driver import CupyDriver

    source, name, macros = variant
    try:
        CupyDriver().load(CudaSource(source).kernel(name, **dict(macros)))
    except CompileError as error:
        raise RuntimeError(str(error)) from None  # it can be pickled, so it reaches the parent process


def compile_all(listed: Iterable[Variant], processes: int | None = None) -> int:
    """Compile variants in several processes; returns their number.

    Raises
    ------
    RuntimeError : a kernel does not compile, with its name and the line, or a process died.
    """
    listed = list(listed)
    with deferred_interrupt() as interrupted:
        try:
            return len(list(map_in_workers(compile_variant, listed, processes or min(16, os.cpu_count() or 1),
                                           interrupted)))
        except WorkerDied:
            raise RuntimeError(f"one of the processes that compiled {len(listed)} variants died, out of memory "
                               "perhaps: start again, what was compiled is kept") from None


def precompile() -> int:
    """Compile all variants of all families; returns their number.

    Raises
    ------
    RuntimeError : no CuPy, no GPU, or a kernel that does not compile, with its name and the line.
    """
    return compile_all(variants(int(cupy().cuda.Device().compute_capability)))


def main() -> None:
    try:
        print(f"{precompile()} variants are compiled")
    except RuntimeError as error:
        sys.exit(f"precompile: error: {error}")


if __name__ == "__main__":
    main()
