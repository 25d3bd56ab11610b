"""The first kernel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output, on_blocks


def launches() -> Iterator[Launch]:
    for size, blocks, threads in ((64, 1, 64), (64, 2, 32), (70, 3, 32)):
        x = np.random.default_rng(size).normal(size=size).astype(np.float32)
        yield Launch(f"{size} numbers {on_blocks(blocks, threads)}", blocks, threads,
                     {"x": x, "a": 0.5, "size": size, "y": Output((size,))}, {"y": np.float32(0.5) * x})


PUZZLE = CudaPuzzle(
    __name__, "One number for each thread", """
    y[i] = a * x[i], for each i from 0 to size - 1.

    A kernel is a function that every thread runs.  Threads come in blocks, blocks in a grid; each thread knows

        threadIdx.x     its number in its block          blockDim.x     the threads of a block
        blockIdx.x      the number of its block          gridDim.x      the blocks of the grid

    Each thread makes one number.  Give each thread an i of its own; blocks are of equal size, so there may be more
    threads than numbers: the last ones must not touch the arrays.
    """, (
        "Threads of all blocks before this one: blockIdx.x * blockDim.x.",
        "i = blockIdx.x * blockDim.x + threadIdx.x is a number of its own for each thread.",
        "Surplus threads: if (i < size) y[i] = a * x[i];"),
    launches=launches, axes={"y": ("i",)}, advice={
        "out of bounds": "Surplus threads have nothing to do: if (i < size) ...",
        "race": "Two threads have the same i: the number of the block has to be in it.",
        "unwritten output": "Does i count the threads of all blocks, or only of one?"})
