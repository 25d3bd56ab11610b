"""A sum over a warp."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output


def launches() -> Iterator[Launch]:
    for rows, blocks in ((4, 1), (7, 2)):
        x = np.random.default_rng(rows).integers(-9, 10, (rows, 32)).astype(np.float32)
        yield Launch(f"{rows} rows on {blocks} block{'s' * (blocks > 1)} of 4 warps", blocks, 128,
                     {"x": x, "rows": rows, "sums": Output((rows,))}, {"sums": x.sum(axis=1)})


PUZZLE = CudaPuzzle(
    __name__, "The sum of a warp, without shared memory", """
    sums[r] is the sum of the 32 numbers of row r of x (rows, 32).  A warp is 32 threads, its lanes, and can
    exchange registers without shared memory:

        __shfl_down_sync(mask, value, step)     the value of the lane `step` further on; of itself, beyond the last

    All lanes in the mask have to call it, at the same line; 0xffffffff is all 32.  A warp sums one row, in 5 rounds
    with the steps 16, 8, 4, 2, 1.  Lane 0 then has the sum: it alone is to write it.
    """, (
        "The warp has its row, and each lane its number: value = x[32 * row + lane].",
        "value += __shfl_down_sync(0xffffffff, value, step); in each round, by all lanes.",
        "for (int step = 16; step > 0; step /= 2) ...; if (lane == 0) sums[row] = value;"),
    launches=launches, uses="__shfl_down_sync", axes={"sums": ("row",)}, advice={
        "race": "All lanes write the row's sum, and only lane 0 has it: if (lane == 0) ...",
        "divergence": "All lanes that the mask names have to come to the shuffle: put it outside of `if (lane < "
                      "step)`."})
