"""The contracts of normalization: statistics of a batch, of each sample and of each row."""

from __future__ import annotations

from typing import Any

from sparsenet.kernels.guards import rises
from sparsenet.kernels.table import Array, Scalar, declare

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
        if not rises(batch_splits, len(features)):
            raise ValueError(f"{kernel.name}: batch_splits is {batch_splits}, expected numbers that rise from 0 to "
                             f"{len(features)}, the rows of features")

    kernel.guard("always")(one_or_one_each)
    kernel.guard("host")(splits_rise)


_guard_samples(SAMPLE_NORM_FORWARD)
_guard_samples(SAMPLE_NORM_BACKWARD)
