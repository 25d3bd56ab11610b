"""Compile everything that a GPU run needs in advance, in parallel: our kernels, CuPy's own, and the CPU kernels for
checking results.

    python -m benchmarks.warm

`sparsenet.kernels.cuda.precompile` compiles our kernels.  CuPy compiles its own on use, so one training step and one
batch of a loader follow.
"""

from __future__ import annotations

import multiprocessing
import sys
import time

from benchmarks import smoke, smoke_parts
from sparsenet.cli.exit_code import run
from sparsenet.kernels.cuda.precompile import precompile


def main() -> None:
    begun = time.perf_counter()
    on_cpu = multiprocessing.get_context("spawn").Process(target=compile_for_cpu)
    on_cpu.start()
    try:
        print(f"{precompile()} variants are compiled, {time.perf_counter() - begun:.1f} s", flush=True)
        smoke_parts.loader("cuda")
        smoke_parts.two_steps("cuda")
        print(f"a batch of a loader and two training steps, {time.perf_counter() - begun:.1f} s", flush=True)
        on_cpu.join()
        print(f"the CPU's kernels, {time.perf_counter() - begun:.1f} s", flush=True)
    finally:
        on_cpu.kill()


def compile_for_cpu() -> None:
    """Run the smoke test on the CPU to fill Numba's cache."""
    smoke.run(smoke.parts(), "cpu", say=lambda line: None)


if __name__ == "__main__":
    sys.exit(run(main))
