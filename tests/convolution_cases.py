"""Convolutions over made-up neighbours, and their results by plain loops in float64."""

from contextlib import AbstractContextManager
from functools import cached_property
from unittest import mock

import numpy as np

from sparsenet.backend import array_module, device_of
from sparsenet.kernels.convolution import view as views


class Table:
    """A rulebook with arbitrary neighbours (M, K), not necessarily those of sites; -2 counts as outside the grid."""

    non_overlapping = False

    def __init__(self, neighbours, inputs, submanifold=False):
        self.neighbours = self.windows = neighbours
        self.submanifold = submanifold
        self.device, self.shape = device_of(neighbours), (inputs, *neighbours.shape)

    max_pairs = property(lambda self: self.neighbours.size)
    pair_count = property(lambda self: int((self.neighbours >= 0).sum()))

    @cached_property
    def transposed_neighbours(self):
        xp = array_module(self.neighbours)
        transposed = xp.full((self.shape[0], self.shape[2]), -1, np.int32)
        m, k = xp.nonzero(self.neighbours >= 0)
        transposed[self.neighbours[m, k], k] = m
        return transposed

    @cached_property
    def pairs(self):
        k, m = np.nonzero(self.neighbours.T >= 0)
        return np.stack([self.neighbours[m, k], m], axis=1).astype(np.int32)

    @cached_property
    def pair_splits(self):
        return np.append(0, np.cumsum((self.neighbours >= 0).sum(axis=0)))


class Pairs(Table):
    """A rulebook with arbitrary pairs (P, 2), whose columns rise within each offset; for passes over pairs only."""

    pairs = pair_splits = None

    pair_count = max_pairs = property(lambda self: len(self.pairs))

    def __init__(self, pairs, pair_splits, inputs, outputs, non_overlapping=False):
        self.pairs, self.pair_splits, self.non_overlapping = pairs, pair_splits, non_overlapping
        self.device, self.shape, self.submanifold = "cpu", (inputs, outputs, len(pair_splits) - 1), False


def through(view: str) -> AbstractContextManager:
    """All passes on a CPU go through that view, or the one nearest to it."""
    def nearest(*allowed):
        def choose(rulebook, c_in, c_out):
            name = view if view in allowed else allowed[0]
            return "neighbours" if name == "transposed_neighbours" and rulebook.submanifold else name
        return choose

    return mock.patch.multiple(
        views, forward_view=nearest("neighbours", "pairs"),
        input_gradient_view=nearest("transposed_neighbours", "pairs"),
        weight_gradient_view=nearest("neighbours", "transposed_neighbours", "pairs"))


def case(n, m, k, c_in, c_out, filled=0.5, dtype=np.float32, seed=0):
    """A rulebook; features, weights, gradient of the output, constant."""
    rng = np.random.default_rng(seed)
    neighbours = np.full((m, k), -1, np.int32)
    if n:
        neighbours = np.where(rng.random((m, k)) < filled, rng.integers(0, n, (m, k)), -1).astype(np.int32)
    arrays = (rng.standard_normal(shape).astype(dtype) for shape in ((n, c_in), (k, c_in, c_out), (m, c_out), (c_out,)))
    return Table(neighbours, n), *arrays


def forward(features, weights, rulebook, constant):
    out = np.zeros((rulebook.shape[1], weights.shape[2]))
    for m, row in enumerate(rulebook.neighbours):
        for k, n in enumerate(row):
            if n >= 0:
                out[m] += features[n].astype(float) @ weights[k].astype(float)
    return out + (0 if constant is None else constant)


def weight_gradient(features, gradient, rulebook):
    neighbours = rulebook.neighbours
    out = np.zeros((neighbours.shape[1], features.shape[1], gradient.shape[1]))
    for k in range(neighbours.shape[1]):
        m = np.flatnonzero(neighbours[:, k] >= 0)
        out[k] = features[neighbours[m, k]].astype(float).T @ gradient[m].astype(float)
    return out


def rounded(array, precision):
    """The array's numbers, rounded as the tensor cores read them."""
    bits = np.ascontiguousarray(array).view(np.uint32).astype(np.uint64)
    if precision == "fp16":  # to nearest, ties to even
        return array.astype(np.float16).astype(np.float32)
    if precision == "bf16":  # to nearest, ties to even
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    else:  # to nearest, ties away from zero
        bits = (bits + 0x1000) & 0xFFFFE000
    return bits.astype(np.uint32).view(np.float32)
