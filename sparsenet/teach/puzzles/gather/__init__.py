"""Gathering rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output


def launches() -> Iterator[Launch]:
    for rows, outputs, channels in ((6, 8, 4), (5, 9, 3)):
        rng = np.random.default_rng(rows)
        x, background = (rng.normal(size=size).astype(np.float32) for size in ((rows, channels), channels))
        neighbours = rng.integers(-1, rows, outputs).astype(np.int32)
        neighbours[-1] = -1
        expected = np.concatenate([x, background[None]])[neighbours]
        yield Launch(f"{outputs} outputs of {channels} channels from {rows} rows", 2, 16, {
            "x": x, "background": background, "neighbours": neighbours, "outputs": outputs, "channels": channels,
            "y": Output((outputs, channels))}, {"y": expected})


PUZZLE = CudaPuzzle(
    __name__, "Gather rows, -1 the background", """
    Row m of y is row neighbours[m] of x, or the background if neighbours[m] is -1: an inactive cell.

        x (rows, channels)     background (channels,)     neighbours (outputs,)     y (outputs, channels)

    Arrays are row-major and have one index in a kernel: the number in row m and channel c of y is y[m * channels +
    c].  Go through all outputs * channels numbers by a grid-stride loop.
    """, (
        "Number i of y stands in row i / channels and in channel i % channels.",
        "const int n = neighbours[i / channels]; is the row of x, or -1.",
        "y[i] = n >= 0 ? x[n * channels + c] : background[c];"),
    launches=launches, axes={"y": ("output", "channel")}, advice={
        "out of bounds": "Row -1 of x does not exist: an inactive cell has the background.  And a row begins at n * "
                         "channels."})
