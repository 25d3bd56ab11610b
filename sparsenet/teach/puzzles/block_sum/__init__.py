"""A sum over a block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output, on_blocks


def launches() -> Iterator[Launch]:
    for blocks in (1, 3):
        x = np.random.default_rng(blocks).integers(-9, 10, 128 * blocks).astype(np.float32)
        yield Launch(f"{128 * blocks} numbers {on_blocks(blocks, 128)}", blocks, 128,
                     {"x": x, "sums": Output((blocks,))}, {"sums": x.reshape(blocks, 128).sum(axis=1)})


PUZZLE = CudaPuzzle(
    __name__, "The sum of a block, by halves", """
    sums[b] is the sum of the 128 numbers of block b.  One thread alone would need 127 additions, one after another;
    by halves it takes 7 rounds: in the first, thread t < 64 adds line[t + 64] to line[t]; in the next, thread t <
    32 adds line[t + 32]; and so on, until line[0] is the sum.  The order of the additions is fixed, so the sum has
    the same bits each time: sparsenet sums floats like this, never by atomics.

    A round may begin only when all threads have finished the one before.
    """, (
        "for (int width = 64; width > 0; width /= 2) is the loop over the rounds.",
        "A barrier belongs at the beginning of each round, or at its end: outside of the if, since all threads must "
        "come to it.",
        "{ __syncthreads(); if (t < width) line[t] += line[t + width]; }, and then thread 0 writes sums[blockIdx.x]."),
    launches=launches, axes={"sums": ("block",)}, advice={
        "divergence": "A barrier inside `if (t < width)` is not reached by the other threads: put it before the if."})
