"""Every kernel: its arguments, its formula in one line, and the guards of its arguments beyond dtype and shape.

`declare(name, family, formula, argument=..., ...)` adds a kernel to the table.  The family's folder holds its
implementations, cpu.py and cuda.py; `reference.py` has the formula as a function.  A guard states when it runs:

    "always"     it needs shapes and scalars only, or values for which the implementation waits for the GPU anyway
    "host"       it reads values; on a GPU, which it would have to wait for, only with SPARSENET_CHECK=1
    "checking"   it reads all numbers; only with SPARSENET_CHECK=1

Letters: N input sites, M output sites, K kernel offsets, P pairs, C channels, D dimensions, B samples, S runs of rows.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from sparsenet.kernels.table import Array, Arrays, Integers, Rulebook, Scalar, declare

# ---- sites ---------------------------------------------------------------------------------------------------------

SITE_COORDINATES = declare(
    "site_coordinates", "rulebook",
    "out[n] = [batch, x, y, ...], of which keys[n] is the row-major index",
    keys=Array("int64", "N"),
    spatial_size=Integers("D"),
)
HASH_INSERT = declare(
    "hash_insert", "hash_table",
    "table_rows[slot] = n where table_keys[slot] = keys[n]",
    keys=Array("int64", "N"),
    check=Scalar(bool),  # raise here for a bad key, which waits for a GPU; if not, `HashTable.check` does it later
)
HASH_LOOKUP = declare(
    "hash_lookup", "hash_table",
    "out[q] = table_rows[slot] where table_keys[slot] = queries[q], or -1",
    table_keys=Array("int64", "T"),
    table_rows=Array("int32", "T"),
    queries=Array("int64", "Q"),
)


@HASH_INSERT.guard("host")
def _keys_are_not_negative(keys):
    if keys.size and keys.min() < 0:
        raise ValueError("hash_insert: keys must not be negative")


def _guard_capacity(kernel: Any) -> None:
    @kernel.guard("always")
    def is_a_power_of_two(table_keys):
        if not table_keys.size or table_keys.size & (table_keys.size - 1):
            raise ValueError(f"{kernel.name}: table_keys has {table_keys.size} slots, expected a power of two: make "
                             "the table with hash_insert")


_guard_capacity(HASH_LOOKUP)


# ---- rulebooks: input cell = output cell * stride - padding + offset * dilation --------------------------------------

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


# ---- convolution -----------------------------------------------------------------------------------------------------

_CONVOLUTION = {
    "features": Array("feature", "N C_in"),
    "weights": Array("feature", "K C_in C_out"),
    "rulebook": Rulebook("N M K"),
    "constant": Array("feature", "C_out", optional=True),
}
CONVOLUTION_FORWARD = declare(
    "convolution_forward", "convolution",
    "out[m] = sum over the pairs (n, m) of each k of features[n] weights[k], + constant; through a leaky ReLU if given "
    "a slope",
    **_CONVOLUTION,
    slope=Scalar(float, optional=True),
)
CONVOLUTION_FORWARD_BY_ROW = declare(
    "convolution_forward_by_row", "convolution",
    "the same without a slope; the bits of a row depend on no other row",
    **_CONVOLUTION,
)
CONVOLUTION_INPUT_GRADIENT = declare(
    "convolution_input_gradient", "convolution",
    "out[n] = sum over the pairs (n, m) of each k of gradient[m] weights[k]^T",
    gradient=Array("feature", "M C_out"),
    weights=Array("feature", "K C_in C_out"),
    rulebook=Rulebook("N M K"),
    turned=Array("feature", "K C_out C_in", optional=True),  # as `level_background` makes them; derived if not given
)
CONVOLUTION_WEIGHT_GRADIENT = declare(
    "convolution_weight_gradient", "convolution",
    "out[k] = sum over the pairs (n, m) of k of features[n]^T gradient[m], + background^T constant_gradient",
    features=Array("feature", "N C_in"),
    gradient=Array("feature", "M C_out"),
    rulebook=Rulebook("N M K"),
    background=Array("feature", "C_in", optional=True),
    constant_gradient=Array("feature", "C_out", optional=True),
)


def _rises(splits: Any, last: int) -> bool:
    """Whether splits rise from 0 to `last`."""
    return len(splits) > 0 and splits[0] == 0 and splits[-1] == last and not (splits[1:] < splits[:-1]).any()


@TRANSPOSED_OF_PAIRS.guard("host")
def _splits_rise(pairs, pair_splits):
    _check_splits("transposed_of_pairs", pairs, pair_splits)


def _check_splits(name: str, pairs: Any, pair_splits: Any) -> None:
    if not _rises(pair_splits, len(pairs)):
        raise ValueError(f"{name}: pair_splits is {pair_splits}, expected numbers that rise from 0 to {len(pairs)}, "
                         "the number of pairs")


def _guard_views(kernel: Any) -> None:
    """Rows that do not exist would be read, or written, somewhere else in memory."""

    def check(rulebook, channels, backend):
        for view in kernel.views_read(rulebook, *channels, backend=backend):
            _check_view(kernel.name, rulebook, view)

    if "weights" in kernel.arguments:
        kernel.guard("checking")(lambda rulebook, weights, backend: check(rulebook, weights.shape[1:], backend))
    else:
        kernel.guard("checking")(lambda rulebook, features, gradient, backend: check(
            rulebook, (features.shape[1], gradient.shape[1]), backend))


def _check_view(name: str, rulebook: Any, view: str) -> None:
    inputs, outputs, offsets = rulebook.shape
    rows = getattr(rulebook, view)
    if view == "pairs":
        if len(rulebook.pair_splits) != offsets + 1:
            raise ValueError(f"{name}: pair_splits has {len(rulebook.pair_splits)} numbers, expected {offsets + 1}, "
                             "one more than there are offsets")
        _check_splits(name, rows, rulebook.pair_splits)
        columns = [(rows[:, 0], 0, inputs, "a row of the {} input sites"),
                   (rows[:, 1], 0, outputs, "a row of the {} output sites")]
    elif view == "neighbours":
        columns = [(rows, -1, inputs, "-1 or a row of the {} input sites")]
    else:
        columns = [(rows, -1, outputs, "-1 or a row of the {} output sites")]
    for column, low, high, words in columns:
        if column.size and not (low <= int(column.min()) and int(column.max()) < high):
            raise ValueError(f"{name}: {view} name rows {int(column.min())} to {int(column.max())}, expected "
                             f"{words.format(high)}")


for _kernel in (CONVOLUTION_FORWARD, CONVOLUTION_FORWARD_BY_ROW, CONVOLUTION_INPUT_GRADIENT,
                CONVOLUTION_WEIGHT_GRADIENT):
    _guard_views(_kernel)

# ---- grouped convolution: output channels see the input channels of their group -----------------------------------

_GROUPED = {
    "features": Array("feature", "N C_in"),
    "weights": Array("feature", "K J C_out"),  # J = C_in / groups; output channels group by group
    "rulebook": Rulebook("N M K"),
    "constant": Array("feature", "C_out", optional=True),
    "groups": Scalar(int),
}
GROUPED_CONVOLUTION_FORWARD = declare(
    "grouped_convolution_forward", "grouped",
    "out[m] = sum over the pairs (n, m) of each k of features[n] weights[k], group by group, + constant",
    **_GROUPED,
)
GROUPED_CONVOLUTION_FORWARD_BY_ROW = declare(
    "grouped_convolution_forward_by_row", "grouped",
    "the same; the bits of a row depend on no other row",
    **_GROUPED,
)
GROUPED_CONVOLUTION_INPUT_GRADIENT = declare(
    "grouped_convolution_input_gradient", "grouped",
    "out[n] = sum over the pairs (n, m) of each k of gradient[m] weights[k]^T, group by group",
    gradient=Array("feature", "M C_out"),
    weights=Array("feature", "K J C_out"),
    rulebook=Rulebook("N M K"),
    groups=Scalar(int),
)
GROUPED_CONVOLUTION_WEIGHT_GRADIENT = declare(
    "grouped_convolution_weight_gradient", "grouped",
    "out[k] = sum over the pairs (n, m) of k of features[n]^T gradient[m], group by group",
    features=Array("feature", "N C_in"),
    gradient=Array("feature", "M C_out"),
    rulebook=Rulebook("N M K"),
    groups=Scalar(int),
)


def _guard_channels(kernel: Any) -> None:
    def groups_divide(c_in, c_out, groups):
        if groups < 1 or c_in % groups or c_out % groups:
            raise ValueError(f"{kernel.name}: {c_in} to {c_out} channels in {groups} groups, expected a number of "
                             "groups that divides both")

    def forward(features, weights, groups):
        c_in = weights.shape[1] * groups
        if features.shape[1] != c_in:
            raise ValueError(f"{kernel.name}: features have {features.shape[1]} channels, the weights expect {c_in} in "
                             f"{groups} groups")
        groups_divide(c_in, weights.shape[2], groups)

    def check(rulebook, c_in, c_out, groups, backend):
        for view in kernel.views_read(rulebook, c_in, c_out, groups, backend=backend):
            _check_view(kernel.name, rulebook, view)

    if "weights" not in kernel.arguments:
        kernel.guard("always")(lambda features, gradient, groups: groups_divide(
            features.shape[1], gradient.shape[1], groups))
        kernel.guard("checking")(lambda rulebook, features, gradient, groups, backend: check(
            rulebook, features.shape[1], gradient.shape[1], groups, backend))
        return
    if "features" in kernel.arguments:
        kernel.guard("always")(forward)
    else:
        kernel.guard("always")(lambda weights, groups: groups_divide(
            weights.shape[1] * groups, weights.shape[2], groups))
    kernel.guard("checking")(lambda rulebook, weights, groups, backend: check(
        rulebook, weights.shape[1] * groups, weights.shape[2], groups, backend))


for _kernel in (GROUPED_CONVOLUTION_FORWARD, GROUPED_CONVOLUTION_FORWARD_BY_ROW, GROUPED_CONVOLUTION_INPUT_GRADIENT,
                GROUPED_CONVOLUTION_WEIGHT_GRADIENT):
    _guard_channels(_kernel)

# ---- matrix products, pooling, activation ----------------------------------------------------------------------------

_FACTORS = {"a": Array("feature", "M K"), "b": Array("feature", "K N")}
MATMUL = declare("matmul", "matmul", "out = a b", **_FACTORS)
MATMUL_BY_ROW = declare("matmul_by_row", "matmul", "the same; the bits of a row depend on no other row", **_FACTORS)

MAX_POOL_FORWARD = declare(
    "max_pool_forward", "pooling",
    "out[m] = max over k of features[windows[m, k]], the background if it is -1, skipped if -2; argmax[m] = the first "
    "such k",
    features=Array("feature", "N C"),
    background=Array("feature", "G C", optional=True),
    windows=Array("int32", "M K"),
    output_coordinates=Array("int32", "M D1"),
    relative=Scalar(bool, optional=True),  # the background is subtracted from the values
)
MAX_POOL_BACKWARD = declare(
    "max_pool_backward", "pooling",
    "out[neighbours[m, argmax[m]]] += gradient[m], or the background of m's sample if that is -1",
    gradient=Array("feature", "M C"),
    argmax=Array("int16", "M C"),
    rulebook=Rulebook("N M K"),
    batch_splits=Array("int64", "B1", optional=True),
)


SUM_POOL_FORWARD = declare(
    "sum_pool_forward", "pooling",
    "out[m] = sum over k of features[windows[m, k]], the background if it is -1, nothing if -2; a mean is divided by "
    "the cells summed",
    features=Array("feature", "N C"),
    background=Array("feature", "G C", optional=True),  # without one, -1 is nothing, too
    windows=Array("int32", "M K"),
    output_coordinates=Array("int32", "M D1"),
    mean=Scalar(bool),
)
SUM_POOL_BACKWARD = declare(
    "sum_pool_backward", "pooling",
    "out[windows[m, k]] += gradient[m], for a mean divided by m's cells; the background of m's sample if that is -1",
    gradient=Array("feature", "M C"),
    rulebook=Rulebook("N M K"),
    batch_splits=Array("int64", "B1", optional=True),
    mean=Scalar(bool),
    with_background=Scalar(bool),  # inactive cells count
    to_background=Scalar(bool),  # the gradient of the background is wanted
)


@MAX_POOL_FORWARD.guard("always")
def _argmax_fits(windows):
    if windows.shape[1] > np.iinfo(np.int16).max:
        raise ValueError(f"max_pool_forward: {windows.shape[1]} kernel offsets, at most 32767: use a smaller window")


def _guard_windows(kernel: Any) -> None:
    def rows_exist(features, windows):
        if windows.size and not (-2 <= int(windows.min()) and int(windows.max()) < len(features)):
            raise ValueError(f"{kernel.name}: windows name rows {int(windows.min())} to {int(windows.max())}, "
                             f"expected -2, -1 or a row of the {len(features)} features")

    kernel.guard("checking")(rows_exist)


_guard_windows(MAX_POOL_FORWARD)
_guard_windows(SUM_POOL_FORWARD)


LEAKY_RELU_FORWARD = declare(
    "leaky_relu_forward", "activations",
    "out = x if x > 0, else slope * x; also of the background",
    x=Array("feature", "N C"),
    slope=Scalar(float),
    background=Array("feature", "G D", optional=True),
)
LEAKY_RELU_BACKWARD = declare(
    "leaky_relu_backward", "activations",
    "out = gradient if reference > 0, else slope * gradient; also of background_gradient",
    reference=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    slope=Scalar(float),
    background=Array("feature", "G D", optional=True),
    background_gradient=Array("feature", "G D", optional=True),
)

ELU, GELU, SILU, TANH, SIGMOID = range(5)  # `kind`: the order of activations/exponentials.cu

ACTIVATION_FORWARD = declare(
    "activation_forward", "activations",
    "out = f(x): x or alpha (e^x - 1); x P(X <= x); x / (1 + e^-x); tanh x; 1 / (1 + e^-x); also of the background",
    x=Array("feature", "N C"),
    kind=Scalar(int),
    alpha=Scalar(float),  # of ELU
    background=Array("feature", "G D", optional=True),
)
ACTIVATION_BACKWARD = declare(
    "activation_backward", "activations",
    "out = gradient * f', from x if f is GELU or SiLU, else from f(x); also of background_gradient",
    kept=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    kind=Scalar(int),
    alpha=Scalar(float),
    background=Array("feature", "G D", optional=True),
    background_gradient=Array("feature", "G D", optional=True),
)


def _guard_kind(kernel: Any) -> None:
    def kind_is_known(kind):
        if kind not in (ELU, GELU, SILU, TANH, SIGMOID):
            raise ValueError(f"{kernel.name}: kind is {kind}, expected ELU, GELU, SILU, TANH or SIGMOID of this module")

    kernel.guard("always")(kind_is_known)


_guard_kind(ACTIVATION_FORWARD)
_guard_kind(ACTIVATION_BACKWARD)

_PRELU_INPUTS = {
    "slope": Array("feature", "S"),  # one for each channel, or one for all
    "background": Array("feature", "G C", optional=True),
}
PRELU_FORWARD = declare(
    "prelu_forward", "activations",
    "out = x if x > 0, else slope[channel] * x; also of the background",
    x=Array("feature", "N C"),
    **_PRELU_INPUTS,
)
PRELU_BACKWARD = declare(
    "prelu_backward", "activations",
    "gradient if x > 0, else slope * gradient; also of background_gradient; that of the slope, the sum of both's x * "
    "gradient where x <= 0",
    x=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    **_PRELU_INPUTS,
    background_gradient=Array("feature", "G C", optional=True),
)


def _guard_slopes(kernel: Any) -> None:
    def one_or_one_each(x, slope):
        if len(slope) not in (1, x.shape[1]):
            raise ValueError(f"{kernel.name}: slope has {len(slope)} numbers, expected 1, or one for each of the "
                             f"{x.shape[1]} channels")

    kernel.guard("always")(one_or_one_each)


_guard_slopes(PRELU_FORWARD)
_guard_slopes(PRELU_BACKWARD)

SOFTMAX_FORWARD = declare(
    "softmax_forward", "activations",
    "out[n] = e^x[n] / sum of e^x[n]; also of the background",
    x=Array("feature", "N C"),
    background=Array("feature", "G C", optional=True),
)
SOFTMAX_BACKWARD = declare(
    "softmax_backward", "activations",
    "out[n] = y[n] * (gradient[n] - sum of y[n] * gradient[n]), y the softmax; also of background_gradient",
    y=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    background=Array("feature", "G C", optional=True),
    background_gradient=Array("feature", "G C", optional=True),
)

# ---- a level: convolution, leaky ReLU, and max-pooling if it follows; composed of the kernels above -----------------

LEVEL_BACKGROUND = declare(
    "level_background", "level",
    "constant = background sum_k weights[k] + bias; its leaky ReLU; sum_k weights[k]; weights transposed",
    weights=Array("feature", "K C_in C_out"),
    background=Array("feature", "C_in", optional=True),
    bias=Array("feature", "C_out", optional=True),
    slope=Scalar(float),
    reversed=Scalar(bool),
    with_gradient=Scalar(bool),
)
LEVEL_GRADIENT = declare(
    "level_gradient", "level",
    "the gradients of the convolution's output, of its constant, and of its input's background",
    gradient=Array("feature", "M C"),
    argmax=Array("int16", "M C", optional=True),
    transposed_neighbours=Array("int32", "N K", optional=True),
    activated=Array("feature", "N C"),
    constant=Array("feature", "C"),
    output_background_gradient=Array("feature", "C", optional=True),
    slope=Scalar(float),
    total_weight=Array("feature", "C_in C", optional=True),
)
CELL_SUMS = declare(
    "cell_sums", "cell_sums",
    "out[b] = (sums[b] + (cells - sites of b) background) / divisor",
    features=Array("feature", "N C"),
    sums=Array("wide", "B C"),
    splits=Array("int64", "B1"),
    background=Array("feature", "G C", optional=True),
    cells=Scalar(int),
    mean=Scalar(bool),
)
CELL_SUMS_BACKWARD = declare(
    "cell_sums_backward", "cell_sums",
    "gradient[b] / divisor at the sites of b; (cells - sites of b) times as much for the background",
    gradient=Array("feature", "B C"),
    splits=Array("int64", "B1"),
    coordinates=Array("int32", "N D1"),
    background_rows=Scalar(int),
    cells=Scalar(int),
    mean=Scalar(bool),
)

_NORM_INPUTS = {"features": Array("feature", "N C"), "background": Array("feature", "G C", optional=True)}
_INACTIVE = {  # give the number of cells that hold the background: the cells of the grids that are not sites
    "batch_splits": Array("int64", "B1", optional=True),
    "cells": Scalar(int),  # of a grid; 0: the background is not part of the statistics
}
BATCH_NORM_STATISTICS = declare(
    "batch_norm_statistics", "norm",
    "out = mean and variance of the rows and, once for each inactive cell, the background; updates the running ones",
    **_NORM_INPUTS, **_INACTIVE,
    running_mean=Array("feature", "C", optional=True),
    running_variance=Array("feature", "C", optional=True),
    momentum=Scalar(float),
)
BATCH_NORM_FORWARD = declare(
    "batch_norm_forward", "norm",
    "out = (x - mean) / sqrt(variance + eps) * weight + bias; also of the background",
    **_NORM_INPUTS,
    moments=Array("float64", "2 C"),
    weight=Array("feature", "C"),
    bias=Array("feature", "C"),
    eps=Scalar(float),
)
BATCH_NORM_BACKWARD = declare(
    "batch_norm_backward", "norm",
    "the gradients of x and background, through mean and variance if they are the batch's; those of bias and weight",
    **_NORM_INPUTS,
    gradient=Array("feature", "N C"),
    background_gradient=Array("feature", "G C", optional=True),
    **_INACTIVE,
    moments=Array("float64", "2 C"),
    weight=Array("feature", "C"),
    eps=Scalar(float),
    of_batch=Scalar(bool),  # whether mean and variance are the batch's own, else they are constants
)
_SAMPLES = {
    "batch_splits": Array("int64", "B1"),
    "cells": Scalar(int),  # of a grid; 0: the background is part of the statistics of samples without a site alone
}
SAMPLE_NORM_FORWARD = declare(
    "sample_norm_forward", "norm",
    "out = (x - mean) / sqrt(variance + eps) * weight + bias, those of a group of channels in a sample; also of the "
    "background, for each sample; mean and variance",
    **_NORM_INPUTS, **_SAMPLES,
    weight=Array("feature", "C"),
    bias=Array("feature", "C"),
    groups=Scalar(int),
    eps=Scalar(float),
)
SAMPLE_NORM_BACKWARD = declare(
    "sample_norm_backward", "norm",
    "the gradients of x and background, through mean and variance; those of bias and weight",
    **_NORM_INPUTS,
    gradient=Array("feature", "N C"),
    background_gradient=Array("feature", "B C", optional=True),
    **_SAMPLES,
    moments=Array("float64", "2 B J"),
    weight=Array("feature", "C"),
    eps=Scalar(float),
)
ROW_NORM_FORWARD = declare(
    "row_norm_forward", "norm",
    "out = (x - mean) / sqrt(variance + eps) * weight + bias, those of a group of channels in a row; if wanted, mean "
    "and 1 / sqrt(variance + eps)",
    features=Array("feature", "N C"),
    weight=Array("feature", "C"),
    bias=Array("feature", "C"),
    groups=Scalar(int),
    eps=Scalar(float),
    with_moments=Scalar(bool),
)
ROW_NORM_BACKWARD = declare(
    "row_norm_backward", "norm",
    "the gradient of x, through mean and variance; those of bias and weight",
    features=Array("feature", "N C"),
    gradient=Array("feature", "N C"),
    moments=Array("float64", "2 J N"),  # as the forward pass returns them
    weight=Array("feature", "C"),
)


def _guard_background(kernel: Any) -> None:
    def one_or_one_each(background, batch_splits, cells):
        if background is None or not cells:
            return
        if batch_splits is None:
            raise ValueError(f"{kernel.name}: batch_splits is None, expected (B+1,): the background counts with cells "
                             f"= {cells}")
        if len(background) not in (1, len(batch_splits) - 1):
            raise ValueError(f"{kernel.name}: background has {len(background)} rows, expected 1, or one for "
                             f"each of the {len(batch_splits) - 1} samples")

    kernel.guard("always")(one_or_one_each)


_guard_background(BATCH_NORM_STATISTICS)
_guard_background(BATCH_NORM_BACKWARD)


def _guard_groups(kernel: Any) -> None:
    def groups_divide_the_channels(features, groups):
        if groups < 1 or features.shape[1] % groups:
            raise ValueError(f"{kernel.name}: {features.shape[1]} channels in {groups} groups, expected a number of "
                             "groups that divides the channels")

    kernel.guard("always")(groups_divide_the_channels)


_guard_groups(SAMPLE_NORM_FORWARD)
_guard_groups(ROW_NORM_FORWARD)


@ROW_NORM_BACKWARD.guard("always")
def _moments_are_of_the_rows(features, moments):
    groups = moments.shape[1]
    if not groups or features.shape[1] % groups:
        raise ValueError(f"row_norm_backward: moments have shape {moments.shape}, expected (2, groups, "
                         f"{len(features)}) with a number of groups that divides the {features.shape[1]} channels")


@SAMPLE_NORM_BACKWARD.guard("always")
def _moments_are_of_the_samples(features, moments, batch_splits, background, background_gradient):
    groups = moments.shape[2]
    if not groups or features.shape[1] % groups or moments.shape[1] != len(batch_splits) - 1:
        raise ValueError(f"sample_norm_backward: moments have shape {moments.shape}, expected (2, "
                         f"{len(batch_splits) - 1}, groups) with a number of groups that divides the "
                         f"{features.shape[1]} channels")
    if (background is None) != (background_gradient is None):
        raise ValueError("sample_norm_backward: background and background_gradient, expected both or neither")


def _guard_samples(kernel: Any) -> None:
    def one_or_one_each(background, batch_splits):
        if not len(batch_splits):
            raise ValueError(f"{kernel.name}: batch_splits is empty, expected (B+1,)")
        if background is not None and len(background) not in (1, len(batch_splits) - 1):
            raise ValueError(f"{kernel.name}: background has {len(background)} rows, expected 1, or one for "
                             f"each of the {len(batch_splits) - 1} samples")

    def splits_rise(features, batch_splits):
        if not _rises(batch_splits, len(features)):
            raise ValueError(f"{kernel.name}: batch_splits is {batch_splits}, expected numbers that rise from 0 to "
                             f"{len(features)}, the rows of features")

    kernel.guard("always")(one_or_one_each)
    kernel.guard("host")(splits_rise)


_guard_samples(SAMPLE_NORM_FORWARD)
_guard_samples(SAMPLE_NORM_BACKWARD)

# ---- runs of rows, rows of samples -----------------------------------------------------------------------------------

SEGMENT_SUM = declare(
    "segment_sum", "rows",
    "out[s] = sum of values[splits[s]:splits[s + 1]]; of all rows without splits",
    values=Array("feature", "N C"),
    splits=Array("int64", "S", optional=True),
)
SEGMENT_MAX = declare(
    "segment_max", "rows",
    "out[s] = max of values[splits[s]:splits[s + 1]]; the first row that attains it",
    values=Array("feature", "N C"),
    splits=Array("int64", "S"),
)


def _guard_splits(kernel: Any) -> None:
    def raise_for(values, splits):
        raise ValueError(f"{kernel.name}: splits is {splits}, expected numbers that rise from 0 to {len(values)}, the "
                         "rows of values")

    def there_are_splits(values, splits):
        if splits is not None and not len(splits):
            raise_for(values, splits)

    def splits_rise(values, splits):
        if splits is not None and not _rises(splits, len(values)):
            raise_for(values, splits)

    kernel.guard("always")(there_are_splits)
    kernel.guard("host")(splits_rise)


_guard_splits(SEGMENT_SUM)
_guard_splits(SEGMENT_MAX)

_ROWS = {"values": Array("feature", "N C"), "rows": Array("feature", "G C"), "coordinates": Array("int32", "N D1")}
ADD_SAMPLE_ROWS = declare(
    "add_sample_rows", "rows", "out[n] = values[n] + rows[sample of n]; one row serves all samples", **_ROWS)
SUBTRACT_SAMPLE_ROWS = declare(
    "subtract_sample_rows", "rows", "out[n] = values[n] - rows[sample of n]", **_ROWS)
MULTIPLY_SAMPLE_ROWS = declare(
    "multiply_sample_rows", "rows", "out[n] = values[n] * rows[sample of n]", **_ROWS)

# ---- rows on the union of two sets of sites --------------------------------------------------------------------------

# Each side is rows of sites that are among the M sites of the union, the n-th being its row x_rows[n], ascending; None:
# all of them.  Where it has no site stands its background, a row for all samples or one for each; None: zeros.
_SIDES = {
    "x_rows": Array("int64", "X", optional=True),
    "y_rows": Array("int64", "Y", optional=True),
    "x_background": Array("feature", "G C", optional=True),
    "y_background": Array("feature", "H E", optional=True),
    "coordinates": Array("int32", "M D1", optional=True),  # of the union; None: both sides have all its sites
}
CONCATENATE_ROWS = declare(
    "concatenate_rows", "rows", "out[m] = [x at m, y at m], or their backgrounds",
    x=Array("feature", "X C"), y=Array("feature", "Y E"), **_SIDES)
ADD_ROWS = declare(
    "add_rows", "rows", "out[m] = (x at m, or its background) + (y at m, or its background)",
    x=Array("feature", "X C"), y=Array("feature", "Y C"), **_SIDES | {
        "y_background": Array("feature", "H C", optional=True)})
SPLIT_ROWS = declare(
    "split_rows", "rows",
    "x[n] = values[x_rows[n], :channels], y[n] = values[y_rows[n], channels:], as in concatenate_rows",
    values=Array("feature", "M C"),
    x_rows=Array("int64", "X", optional=True),
    y_rows=Array("int64", "Y", optional=True),
    channels=Scalar(int),
)


def _guard_sides(kernel: Any) -> None:
    @kernel.guard("always")
    def a_side_has_all_sites_or_says_which(x, y, x_rows, y_rows, x_background, y_background, coordinates):
        sites = len(x if x_rows is None else y) if coordinates is None else len(coordinates)
        for name, values, rows, background in (("x", x, x_rows, x_background), ("y", y, y_rows, y_background)):
            if rows is None and len(values) != sites:
                raise ValueError(f"{kernel.name}: {name} has {len(values)} rows, expected {sites}, one for each site: "
                                 f"pass {name}_rows")
            if rows is not None and coordinates is None:
                raise ValueError(f"{kernel.name}: coordinates is None, expected those of the union, of which "
                                 f"{name}_rows are some rows")
            if background is not None and not len(background):
                raise ValueError(f"{kernel.name}: {name}_background has no row, expected one, or one for each sample")

    @kernel.guard("host")
    def they_ascend(x_rows, y_rows, coordinates):
        _check_rows_ascend(kernel.name, x_rows, y_rows, coordinates)


def _check_rows_ascend(kernel: str, x_rows: Any, y_rows: Any, union: Any) -> None:
    for name, rows in (("x_rows", x_rows), ("y_rows", y_rows)):
        if rows is not None and rows.size and not (0 <= rows[0] and rows[-1] < len(union)
                                                   and (rows[1:] > rows[:-1]).all()):
            raise ValueError(f"{kernel}: {name} must ascend from 0 or more to below {len(union)}, the sites of the "
                             "union")


_guard_sides(CONCATENATE_ROWS)
_guard_sides(ADD_ROWS)


@SPLIT_ROWS.guard("always")
def _both_have_channels(values, channels):
    if not 0 <= channels <= values.shape[1]:
        raise ValueError(f"split_rows: channels is {channels}, expected 0 to {values.shape[1]}, those of values")


@SPLIT_ROWS.guard("host")
def _split_rows_ascend(values, x_rows, y_rows):
    _check_rows_ascend("split_rows", x_rows, y_rows, values)


# ---- points and the cells that they lie in ---------------------------------------------------------------------------

OUTSIDE, NOT_FINITE, NO_SAMPLE = -1, -2, -3  # in place of a key or row: of the grid, the point; there is no such sample

_POINTS = {
    "points": Array("float", "P D"),
    "samples": Array("int64", "P", optional=True),  # the batch number of each; None: 0
    "origin": Array("float64", "D"),
    "voxel_size": Array("float64", "D"),
    "spatial_size": Integers("D"),
    "batch_size": Scalar(int),
}
POINT_KEYS = declare(
    "point_keys", "points",
    "out[p] = key of the cell floor((points[p] - origin) / voxel_size)",
    **_POINTS,
)
POINT_ROWS = declare(
    "point_rows", "points",
    "out[p] = row of the site in p's cell; if trilinear those of the 2^D cells whose centres are around p, and weights",
    **_POINTS,
    keys=Array("int64", "N"),  # of the sites, sorted
    table_keys=Array("int64", "T"),
    table_rows=Array("int32", "T"),
    trilinear=Scalar(bool),
)
SORT_KEYS = declare(
    "sort_keys", "points",
    "out[i] = keys[members[i]], which rise; members of equal keys rise, too",
    keys=Array("int64", "M"),  # from -1 on
    limit=Scalar(int),  # no key is larger
)
INTERPOLATE_ROWS = declare(
    "interpolate_rows", "points",
    "out[p] = sum over k of weights[p, k] features[rows[p, k]], the background of p's sample if the row is -1",
    features=Array("feature", "N C"),
    rows=Array("int32", "P K"),
    weights=Array("float64", "P K", optional=True),  # None: K is 1, and the row is copied
    background=Array("feature", "G C", optional=True),
    samples=Array("int64", "P", optional=True),
)
_GROUPS = {  # group s has the members splits[s] to splits[s + 1]; members before the first group are in none
    "members": Array("int64", "M"),
    "splits": Array("int64", "S1"),
}
GROUP_SUM = declare(
    "group_sum", "points",
    "out[s] = sum over the members m of group s, in their order, of weights[m] values[m // K]; or their mean",
    values=Array("feature", "P C"),
    **_GROUPS,
    weights=Array("float64", "P K", optional=True),  # None: ones, and K is 1
    mean=Scalar(bool),
)
GROUP_MAX = declare(
    "group_max", "points",
    "out[s] = max over the members m of group s of values[m]; the first that attains it",
    values=Array("feature", "P C"),
    **_GROUPS,
)


_guard_capacity(POINT_ROWS)


@SORT_KEYS.guard("checking")
def _keys_keep_to_the_limit(keys, limit):
    _check_range("sort_keys", "keys", keys, -1, limit + 1)


@INTERPOLATE_ROWS.guard("always")
def _rows_have_weights(rows, weights, background, samples):
    if weights is None and rows.shape[1] != 1:
        raise ValueError(f"interpolate_rows: rows has shape {rows.shape} and weights is None, expected weights of that "
                         "shape, or one row for each point")
    if background is not None and len(background) != 1 and samples is None:
        raise ValueError(f"interpolate_rows: background has {len(background)} rows and samples is None, expected one "
                         "row, or the sample of each point")


@INTERPOLATE_ROWS.guard("checking")
def _rows_and_samples_exist(features, rows, background, samples):
    _check_range("interpolate_rows", "rows", rows, -1, len(features))
    if background is not None and len(background) != 1:
        _check_range("interpolate_rows", "samples", samples, 0, len(background))


def _guard_groups(kernel: Any) -> None:
    @kernel.guard("always")
    def there_are_splits(splits):
        if not len(splits):
            raise ValueError(f"{kernel.name}: splits is empty, expected one number more than there are groups")

    @kernel.guard("host")
    def splits_rise(members, splits):
        if splits[0] < 0 or splits[-1] > len(members) or (splits[1:] < splits[:-1]).any():
            raise ValueError(f"{kernel.name}: splits is {splits}, expected numbers that rise within 0 to "
                             f"{len(members)}, the number of members")


_guard_groups(GROUP_SUM)
_guard_groups(GROUP_MAX)


@GROUP_SUM.guard("checking")
def _weighted_members_exist(values, members, weights):
    _check_range("group_sum", "members", members, 0, len(values) if weights is None else weights.size)


@GROUP_MAX.guard("checking")
def _members_exist(values, members):
    _check_range("group_max", "members", members, 0, len(values))


def _check_range(kernel: str, name: str, numbers: Any, low: int, end: int) -> None:
    if numbers.size and not (low <= int(numbers.min()) and int(numbers.max()) < end):
        raise ValueError(f"{kernel}: {name} are {int(numbers.min())} to {int(numbers.max())}, expected {low} to "
                         f"{end - 1}")


# ---- losses and the step ---------------------------------------------------------------------------------------------

COSINE, L2, SQUARED_L2 = range(3)  # `distance`: the order of ops.triplet_loss.DISTANCES and of losses/triplet_loss.cu

SOFTMAX_CROSS_ENTROPY = declare(
    "softmax_cross_entropy", "losses",
    "loss = mean of log(sum of e^logits) - logits[label]",
    logits=Array("float", "B C"),
    labels=Array("int64", "B"),
    with_gradient=Scalar(bool),
)
TRIPLET_LOSS = declare(
    "triplet_loss", "losses",
    "loss = mean of max(0, margin + d(anchor, positive) - d(anchor, negative))",
    anchor=Array("float", "T C"),
    positive=Array("float", "T C"),
    negative=Array("float", "T C"),
    margin=Scalar(float),
    distance=Scalar(int),
    with_gradient=Scalar(bool),
)
SCALE_GRADIENT = declare(
    "scale_gradient", "losses", "gradient *= factor", gradient=Array("float", "N"), factor=Array("float", ""))
SGD_STEP = declare(
    "sgd_step", "optim",
    "v = momentum * v + (1 - dampening) * (gradient / loss_scale + weight_decay * parameter); parameter -= lr * v",
    parameters=Arrays("feature", "N"),
    gradients=Arrays("feature", "N"),
    velocities=Arrays("wide", "N", optional=True),
    masters=Arrays("wide", "N", optional=True),
    lr=Scalar(float),
    momentum=Scalar(float),
    dampening=Scalar(float),
    nesterov=Scalar(bool),
    weight_decay=Scalar(float),
    loss_scale=Scalar(float),
)
ADAM_STEP = declare(
    "adam_step", "optim",
    "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2, with g = gradient / loss_scale + weight_decay"
    " * parameter; parameter -= lr * (m / (1 - beta1^steps)) / (sqrt(v / (1 - beta2^steps)) + eps)",
    parameters=Arrays("feature", "N"),
    gradients=Arrays("feature", "N"),
    means=Arrays("wide", "N"),
    squares=Arrays("wide", "N"),
    maxima=Arrays("wide", "N", optional=True),
    masters=Arrays("wide", "N", optional=True),
    lr=Scalar(float),
    beta1=Scalar(float),
    beta2=Scalar(float),
    eps=Scalar(float),
    weight_decay=Scalar(float),
    decoupled=Scalar(bool),
    steps=Scalar(int),
    loss_scale=Scalar(float),
)


@SOFTMAX_CROSS_ENTROPY.guard("always")
def _there_is_a_class(logits):
    if not logits.shape[1]:
        raise ValueError(f"softmax_cross_entropy: logits has shape {logits.shape}, expected at least one class")


@TRIPLET_LOSS.guard("always")
def _distance_is_known(distance):
    if distance not in (COSINE, L2, SQUARED_L2):
        raise ValueError(f"triplet_loss: distance is {distance}, expected COSINE, L2 or SQUARED_L2 of this module")


@SGD_STEP.guard("always")
def _masters_are_for_float16(masters, backend):
    if masters is not None and backend != "cuda":
        raise ValueError("sgd_step: masters are given, expected None on a CPU, which has no float16 parameters")


@ADAM_STEP.guard("always")
def _masters_are_for_float16_here_too(masters, backend):
    if masters is not None and backend != "cuda":
        raise ValueError("adam_step: masters are given, expected None on a CPU, which has no float16 parameters")


@ADAM_STEP.guard("always")
def _nothing_is_divided_by_zero(beta1, beta2, eps, steps):
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and eps > 0 and steps >= 1):
        raise ValueError(f"adam_step: beta1 is {beta1}, beta2 {beta2}, eps {eps}, steps {steps}, expected betas of at "
                         "least 0 and below 1, eps above 0, and the number of this step, from 1")


# ---- voxelization ----------------------------------------------------------------------------------------------------

# The largest extent of the triangles, in cells.  The largest number is the normal's: with sides of
# L steps it stays below 3 L^2 (L + 2 * LATTICE), which is 8.86e18 < 2^63 = 9.22e18 for 700 cells.
MAX_EXTENT = 700
LATTICE = 2048  # vertices come to lie on odd multiples of 1 / LATTICE of a cell
PLACEMENT = 21  # numbers of one: rotation and affine, row by row, and shift

VOXELIZE_TRIANGLES = declare(
    "voxelize_triangles", "voxels",
    "the cells that share a point with a triangle, row-major; how many more lie outside the grid",
    vertices=Array("int64", "V 3"),  # odd: 2048 steps to a cell, whose borders are even
    faces=Array("int32", "F 3"),
    spatial_size=Integers("3"),
)
FILL_SOLID = declare(
    "fill_solid", "voxels",
    "the cells, and those from which no path over faces of inactive cells leads to the border",
    coordinates=Array("int32", "N 3"),
    spatial_size=Integers("3"),
)
VOXELIZE_MESHES = declare(
    "voxelize_meshes", "voxels",
    "the keys of the cells that each mesh meets, once placed; how many more lie outside the grid",
    vertices=Array("float64", "V 3"),
    vertex_splits=Array("int64", "S1"),
    faces=Array("int32", "F 3"),
    face_splits=Array("int64", "S1"),
    placements="(S, 21) float64, on the host",
    spatial_size=Integers("3"),
    render_size=Scalar(int),
    fill=Scalar(bool),
)


class MeshFault(ValueError):
    """One of the meshes cannot be voxelized.

    mesh : its number in the batch;  reason : why, without that number
    """

    def __init__(self, mesh: int, reason: object):
        super().__init__(f"voxelize_meshes: mesh {mesh}: {reason}")
        self.mesh, self.reason = mesh, str(reason)


@VOXELIZE_TRIANGLES.guard("always")
def _triangles_fit_the_lattice(vertices, faces):
    if not len(faces):
        return
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise ValueError(f"voxelize_triangles: faces refer to vertices {int(faces.min())} to "
                         f"{int(faces.max())}, there are {len(vertices)}")
    if not (vertices & 1).all():
        raise ValueError("voxelize_triangles: vertices have even coordinates, expected odd ones, which lie "
                         "on no border of a cell")
    used = vertices[faces.ravel()]
    extent = int((used.max(axis=0) - used.min(axis=0)).max())
    if extent > MAX_EXTENT * LATTICE:
        raise ValueError(f"voxelize_triangles: triangles extend over {extent / LATTICE:.1f} cells, expected at "
                         f"most {MAX_EXTENT}, where 64-bit integers end: lower the render size")


@FILL_SOLID.guard("always")
def _cells_lie_in_the_grid(coordinates, spatial_size):
    if not len(coordinates):
        return
    low, high = coordinates.min(axis=0).tolist(), coordinates.max(axis=0).tolist()
    if min(low) < 0 or any(at >= side for at, side in zip(high, spatial_size, strict=True)):
        raise ValueError(f"fill_solid: coordinates reach from {low} to {high}, outside the grid of "
                         f"{list(spatial_size)}")


@VOXELIZE_MESHES.guard("always")
def _placements_are_on_the_host(placements, vertex_splits, spatial_size):
    samples = vertex_splits.size - 1
    if not isinstance(placements, np.ndarray) or placements.dtype != np.float64:
        raise TypeError("voxelize_meshes: placements are no float64 array of NumPy: keep them on the host")
    if placements.shape != (samples, PLACEMENT):
        raise ValueError(f"voxelize_meshes: placements have shape {placements.shape}, expected ({samples}, "
                         f"{PLACEMENT})")
    if not np.isfinite(placements).all():
        raise ValueError("voxelize_meshes: placements hold NaN or infinity, expected finite numbers")
    if samples * prod(spatial_size) >= 2**63:
        raise OverflowError(f"voxelize_meshes: {samples} grids of {spatial_size} have more cells than int64 keys can "
                            "name (2^63): use a smaller grid or batch")
