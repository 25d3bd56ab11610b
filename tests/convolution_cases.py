"""Convolutions over made-up tables of neighbours, and what they give: plain loops in float64."""

import numpy as np


def case(n, m, k, c_in, c_out, filled=0.5, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    neighbours = np.full((m, k), -1, np.int32)
    if n:
        neighbours = np.where(rng.random((m, k)) < filled, rng.integers(0, n, (m, k)), -1).astype(np.int32)
    arrays = (rng.standard_normal(shape).astype(dtype) for shape in ((n, c_in), (k, c_in, c_out), (m, c_out), (c_out,)))
    return (neighbours, *arrays)


def forward(features, weights, neighbours, constant):
    out = np.zeros((len(neighbours), weights.shape[2]))
    for m, row in enumerate(neighbours):
        for k, n in enumerate(row):
            if n >= 0:
                out[m] += features[n].astype(float) @ weights[k].astype(float)
    return out + (0 if constant is None else constant)


def weight_gradient(features, gradient, neighbours):
    out = np.zeros((neighbours.shape[1], features.shape[1], gradient.shape[1]))
    for k in range(neighbours.shape[1]):
        m = np.flatnonzero(neighbours[:, k] >= 0)
        out[k] = features[neighbours[m, k]].astype(float).T @ gradient[m].astype(float)
    return out


def rounded(array, precision):
    """What the tensor cores are given in place of the array's numbers."""
    bits = np.ascontiguousarray(array).view(np.uint32).astype(np.uint64)
    if precision == "fp16":  # to nearest, ties to even
        return array.astype(np.float16).astype(np.float32)
    if precision == "bf16":  # to nearest, ties to even
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    else:  # to nearest, ties away from zero
        bits = (bits + 0x1000) & 0xFFFFE000
    return bits.astype(np.uint32).view(np.float32)
