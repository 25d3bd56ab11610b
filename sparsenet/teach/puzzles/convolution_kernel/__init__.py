"""A sparse convolution, a thread for each number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsenet.teach.cuda_puzzle import CudaPuzzle, Launch, Output
from sparsenet.teach.inputs import examples

FILTERS = (((5, 6), 7, 3, 1, 0), ((6, 6), 8, 2, 2, 0))


def launches() -> Iterator[Launch]:
    for example, (c_in, c_out) in zip(examples(80, FILTERS), ((2, 3), (4, 4)), strict=True):
        (inputs, outputs, offsets), neighbours = example.rulebook.shape, example.rulebook.neighbours
        rng = example.rng()
        features = rng.normal(size=(inputs, c_in)).astype(np.float32)
        weights = rng.normal(size=(offsets, c_in, c_out)).astype(np.float32)
        yield Launch(f"{example.words}, {c_in} -> {c_out} channels", 2, 32, {
            "features": features, "weights": weights, "neighbours": neighbours, "outputs": outputs, "offsets": offsets,
            "c_in": c_in, "c_out": c_out, "result": Output((outputs, c_out))},
            {"result": convolved(features, weights, neighbours)})


def convolved(features: np.ndarray, weights: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """(M, C_out) float32, summed in float64."""
    rows = np.concatenate([features, np.zeros((1, features.shape[1]), np.float32)])[neighbours]
    return np.einsum("mki,kio->mo", rows.astype(np.float64), weights.astype(np.float64)).astype(np.float32)


PUZZLE = CudaPuzzle(
    __name__, "A sparse convolution, a thread for each number", """
    result[m, o] = sum over the offsets k with n = neighbours[m, k] >= 0, and over the input channels c, of
                   features[n, c] * weights[k, c, o]

        features (inputs, c_in)     weights (offsets, c_in, c_out)     neighbours (outputs, offsets)
        result (outputs, c_out)     all row-major

    Number i of the result stands in row i / c_out and channel i % c_out.  One thread sums one number, in a
    register, and writes it once.  (It is the simplest kernel, and slow: each feature is read c_out times.  The next
    puzzle mends that.)
    """, (
        "float sum = 0; and two loops, over k and over c.",
        "n = neighbours[m * offsets + k]; if it is -1, go on with the next offset.",
        "sum += features[n * c_in + c] * weights[(k * c_in + c) * c_out + o];"),
    launches=launches, axes={"result": ("output", "channel")}, advice={
        "out of bounds": "Is -1 left out?  features[n, c] is features[n * c_in + c], and weights[k, c, o] is "
                         "weights[(k * c_in "
                         "+ c) * c_out + o]."})
