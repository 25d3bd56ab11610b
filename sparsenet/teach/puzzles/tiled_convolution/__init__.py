"""A sparse convolution in tiles of shared memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output
from sparsenet.teach.inputs import examples
from sparsenet.teach.puzzles.convolution_kernel import convolved

FILTERS = (((4, 4), 5, 2, 1, 0), ((5, 6), 12, 3, 1, 0))
SIDE = 8  # of a tile, as in solution.cu


def launches() -> Iterator[Launch]:
    for example in examples(90, FILTERS):
        (inputs, outputs, offsets), neighbours = example.rulebook.shape, example.rulebook.neighbours
        rng, blocks = example.rng(), -(-outputs // SIDE)
        features = rng.normal(size=(inputs, SIDE)).astype(np.float32)
        weights = rng.normal(size=(offsets, SIDE, SIDE)).astype(np.float32)
        yield Launch(f"{example.words}, {blocks} block{'s' * (blocks > 1)} of 8 x 8 threads", blocks, (SIDE, SIDE), {
            "features": features, "weights": weights, "neighbours": neighbours, "outputs": outputs, "offsets": offsets,
            "result": Output((outputs, SIDE))}, {"result": convolved(features, weights, neighbours)}, {
            "features": (int((neighbours >= 0).sum()) * SIDE,
                         "each thread reads one number of each gathered row, and takes the others from shared memory"),
            "weights": (blocks * offsets * SIDE * SIDE,
                        "each thread reads one weight of each offset, and takes the others from shared memory")})


PUZZLE = CudaPuzzle(
    __name__, "A sparse convolution, tiled", """
    The same sum as in `convolution_kernel`, with 8 input and 8 output channels:

        result[m, o] = sum over k, n = neighbours[m, k] >= 0, and c of features[n, c] * weights[k, c, o]

    A block of 8 x 8 threads makes 8 rows of the result: thread (x, y) makes channel x of row m = 8 * blockIdx.x +
    y.  For each offset the block first gathers its 8 rows of features, and weights[k], into shared memory, each
    thread one number of both; then each thread multiplies a row by a column out of there.  So a feature is read
    from global memory once instead of 8 times, and a weight once for 8 rows: that is the point of a tile, and it is
    counted.

        rows[y][x]      feature x of the neighbour of row y, or 0 if there is none, or no row m
        matrix[y][x]    weight from input channel y to output channel x

    Every thread of the block has to come to each barrier, those without a row as well.
    """, (
        "Inside the loop over k: load one number into rows[y][x], one into matrix[y][x]; barrier; sum over c; then?",
        "The next round overwrites the tiles: no thread may begin it while another multiplies: a second barrier.",
        "rows[y][x] = n >= 0 ? features[n * 8 + x] : 0; matrix[y][x] = weights[(k * 8 + y) * 8 + x]; n = -1 if "
        "m >= outputs.",
        "sum += rows[y][c] * matrix[c][x]; for c from 0 to 7.  After the loop over k: if (m < outputs) result[m * 8 + "
        "x] = sum;"),
    launches=launches, axes={"result": ("output", "channel")}, advice={
        "out of bounds": "The last block may have fewer than 8 rows: is m < outputs checked where neighbours are read "
                         "and where "
                         "the result is written?  And -1 is not a row.",
        "divergence": "Threads without a row (m >= outputs) must not return before the barriers, nor those without a "
                      "neighbour "
                      "continue past them."})
