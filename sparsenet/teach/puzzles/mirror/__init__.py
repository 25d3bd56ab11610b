"""Shared memory and a barrier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output, on_blocks


def launches() -> Iterator[Launch]:
    for blocks in (1, 3):
        x = np.arange(64 * blocks, dtype=np.int32)
        expected = x.reshape(blocks, 64)[:, ::-1].reshape(-1).copy()
        yield Launch(f"{64 * blocks} numbers {on_blocks(blocks, 64)}", blocks, 64,
                     {"x": x, "y": Output((64 * blocks,), "int32")}, {"y": expected})


PUZZLE = CudaPuzzle(
    __name__, "Shared memory and a barrier", """
    Each block of 64 threads mirrors its 64 numbers: the last becomes the first.  With block b's numbers beginning
    at 64 b,

        y[64 b + t] = x[64 b + 63 - t]

    Do it through shared memory: each thread puts one number into line, which all threads of its block share, and
    then takes another's.  Threads do not run in step: before a thread takes a number, the other one must have put
    it there.  __syncthreads() is a barrier: no thread of the block goes on before all have come to it.
    """, (
        "t = threadIdx.x; the block's first number is 64 * blockIdx.x.",
        "First line[t] = x[...]; at the end y[...] = line[63 - t].  What has to be between?",
        "__syncthreads();"),
    launches=launches, uses="__syncthreads", axes={"y": ("i",)})
