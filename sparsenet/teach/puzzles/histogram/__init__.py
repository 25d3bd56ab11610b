"""Counting with atomics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, on_blocks


def launches() -> Iterator[Launch]:
    for size, samples, blocks in ((40, 2, 1), (150, 5, 2)):
        batch = np.sort(np.random.default_rng(size).integers(0, samples, size)).astype(np.int32)
        yield Launch(f"{size} sites of {samples} samples {on_blocks(blocks, 32)}", blocks, 32,
                     {"batch": batch, "size": size, "counts": np.zeros(samples, np.int32)},
                     {"counts": np.bincount(batch, minlength=samples).astype(np.int32)})


PUZZLE = CudaPuzzle(
    __name__, "Count the sites of each sample", """
    counts[b] is the number of the sites i with batch[i] == b, for i from 0 to size - 1.  The counts are zero at
    first.

    counts[b] += 1 is three steps: read, add, write.  Two threads that read the same count before either writes lose
    one.  atomicAdd(&counts[b], 1) is one step that no other thread can come between.

    Integers come out the same in any order.  Floats do not, so sparsenet adds no floats by atomics.
    """, (
        "A grid-stride loop over the sites, as before.",
        "atomicAdd takes an address: &counts[batch[i]]."),
    launches=launches, axes={"counts": ("sample",)}, advice={
        "race": "counts[...] += 1 reads and writes in two steps: atomicAdd(&counts[...], 1) is one."})
