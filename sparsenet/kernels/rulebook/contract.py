"""The contracts of rulebooks: input cell = output cell * stride - padding + offset * dilation."""

from __future__ import annotations

from math import prod

from sparsenet.kernels.guards import check_splits
from sparsenet.kernels.table import Array, Integers, Scalar, declare

SITE_COORDINATES = declare(
    "site_coordinates", "rulebook",
    "out[n] = [batch, x, y, ...], of which keys[n] is the row-major index",
    keys=Array("int64", "N"),
    spatial_size=Integers("D"),
)

_AXES = {name: Integers("D") for name in ("spatial_size", "output_size", "kernel_size", "stride", "padding",
                                          "dilation")}
_INPUTS = {"keys": Array("int64", "N"), "coordinates": Array("int32", "N D1"), "batch_splits": Array("int64", "B1")}
_SITES = "the sites with these keys, whose `hash_table` is made when a backend reads it"

OUTPUT_KEYS = declare(
    "output_keys", "rulebook",
    "the keys of all cells m with a site at m * stride - padding + k * dilation for some k, sorted",
    **_INPUTS, sites=_SITES, **_AXES,
)
NEIGHBOURS = declare(
    "neighbours", "rulebook",
    "out[m, k] = row of the site at m * stride - padding + k * dilation, or -1",
    **_INPUTS,
    output_keys=Array("int64", "M"),
    output_coordinates=Array("int32", "M D1"),
    sites=_SITES,
    **_AXES,
)
TRANSPOSE_NEIGHBOURS = declare(
    "transpose_neighbours", "rulebook",
    "out[neighbours[m, k], k] = m, all others -1",
    neighbours=Array("int32", "M K"),
    inputs="N, the number of input sites",
)
WINDOWS = declare(
    "windows", "rulebook",
    "out[m, k] = neighbours[m, k], or -2 if the cell m * stride - padding + k * dilation lies outside the grid",
    neighbours=Array("int32", "M K"),
    output_coordinates=Array("int32", "M D1"),
    **_AXES,
)
PAIRS = declare(
    "pairs", "rulebook",
    "all [neighbours[m, k], m] that are not -1, by k, then by m; the first of each k",
    **_INPUTS,
    output_keys=Array("int64", "M"),
    rulebook="the rulebook, whose `neighbours` (M, K) int32 are made when a backend reads them",
    submanifold=Scalar(bool),
    **_AXES,
)
TRANSPOSED_OF_PAIRS = declare(
    "transposed_of_pairs", "rulebook",
    "out[n, k] = m for each pair [n, m] of offset k, all others -1",
    pairs=Array("int32", "P 2"),
    pair_splits=Array("int64", "K1"),
    inputs="N, the number of input sites",
)
PAIR_COUNT = declare(
    "pair_count", "rulebook",
    "P, the number of all (n, m, k)",
    coordinates=Array("int32", "N D1"), **_AXES,
)


@WINDOWS.guard("always")
def _offsets_are_those_of_the_filter(neighbours, kernel_size):
    if neighbours.shape[1] != prod(kernel_size):
        raise ValueError(f"windows: neighbours have {neighbours.shape[1]} offsets, expected {prod(kernel_size)} for a "
                         f"filter of size {kernel_size}")


@TRANSPOSED_OF_PAIRS.guard("host")
def _splits_rise(pairs, pair_splits):
    check_splits("transposed_of_pairs", pairs, pair_splits)
