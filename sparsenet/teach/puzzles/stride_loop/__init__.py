"""A grid-stride loop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output, on_blocks


def launches() -> Iterator[Launch]:
    for size, blocks, threads in ((200, 2, 32), (100, 3, 32), (20, 2, 32)):
        x = np.random.default_rng(size).normal(size=size).astype(np.float32)
        expected = np.where(x > 0, x, np.float32(0.25) * x)
        yield Launch(f"{size} numbers {on_blocks(blocks, threads)}", blocks, threads,
                     {"x": x, "slope": 0.25, "size": size, "y": Output((size,))}, {"y": expected})


PUZZLE = CudaPuzzle(
    __name__, "A grid-stride loop: more numbers than threads", """
    y[i] = x[i] if x[i] > 0, else slope * x[i]: a leaky ReLU, for each i from 0 to size - 1.

    A grid has as many blocks as are good for the GPU, and an array any size.  Each thread therefore makes every
    T-th number, where T is the number of threads of the whole grid: a grid-stride loop.  It is right on any number
    of blocks, and neighbouring threads read neighbouring numbers.
    """, (
        "Begin as in `scale`: i = blockIdx.x * blockDim.x + threadIdx.x.",
        "T is gridDim.x * blockDim.x.",
        "for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) ..."),
    launches=launches, axes={"y": ("i",)}, advice={
        "unwritten output": "There are more numbers than threads, or a step too wide: each thread goes on to i + T.",
        "race": "Two threads come to the same i: step by all threads of the grid, gridDim.x * blockDim.x.",
        "endless loop": "Does i grow?"})
