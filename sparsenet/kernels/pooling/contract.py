"""The contracts of pooling over the windows of a rulebook."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsenet.kernels.table import Array, Rulebook, Scalar, declare

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


@SUM_POOL_BACKWARD.guard("always")
def _there_is_a_background(with_background, to_background):
    if to_background and not with_background:
        raise ValueError("sum_pool_backward: to_background is True, but with_background is False, expected True: there "
                         "is no gradient of a background that does not count")


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
