"""Weights in the layouts of PyTorch and spconv; `docs/weights.md` compares them.

Offsets are in the same order everywhere, so converting permutes axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from sparsenet.sparse.geometry import several


def weight_from_torch(weight: Any) -> np.ndarray:
    """A weight of PyTorch's `ConvNd`, (C_out, C_in / groups, *size), as (K, C_in / groups, C_out)."""
    weight = _checked("weight_from_torch", weight, "(C_out, C_in, *size)")
    return np.ascontiguousarray(np.moveaxis(weight, (0, 1), (-1, -2))).reshape(-1, weight.shape[1], weight.shape[0])


def weight_to_torch(weight: Any, size: Sequence[int]) -> np.ndarray:
    """(K, C_in / groups, C_out) as a weight of PyTorch's `ConvNd`, (C_out, C_in / groups, *size)."""
    return np.ascontiguousarray(np.moveaxis(_with_size("weight_to_torch", weight, size), (-1, -2), (0, 1)))


def weight_from_transposed(weight: Any, groups: int = 1) -> np.ndarray:
    """A weight of PyTorch's `ConvTransposeNd`, (C_in, C_out / groups, *size), as that of a TransposedConv or an
    InverseConv, (K, C_in / groups, C_out): there the input channels are in groups, here the output channels."""
    weight = _checked("weight_from_transposed", weight, "(C_in, C_out, *size)")
    parts = _in_groups("weight_from_transposed", weight, 0, groups)
    return np.concatenate([np.moveaxis(part, (0, 1), (-2, -1)).reshape(-1, *part.shape[:2]) for part in parts], axis=2)


def weight_to_transposed(weight: Any, size: Sequence[int], groups: int = 1) -> np.ndarray:
    """The weight of a TransposedConv or an InverseConv, (K, C_in / groups, C_out), as that of PyTorch's
    `ConvTransposeNd`, (C_in, C_out / groups, *size)."""
    parts = _in_groups("weight_to_transposed", _with_size("weight_to_transposed", weight, size), -1, groups)
    return np.concatenate([np.moveaxis(part, (-2, -1), (0, 1)) for part in parts])


def weight_from_spconv(weight: Any, stride: int | Sequence[int] = 1) -> np.ndarray:
    """A weight of spconv 2, (C_out, *size, C_in), as (K, C_in, C_out).

    stride : of the layer.  A filter of one cell with stride 1 is a matrix product in spconv, which reads the numbers of
        its weight as (C_in, C_out), whatever the shape says (2.3.8, with SPCONV_SAVED_WEIGHT_LAYOUT not set)
    """
    weight = _checked("weight_from_spconv", weight, "(C_out, *size, C_in)")
    c_out, *size, c_in = weight.shape
    if _is_matrix(size, stride):
        return np.array(weight).reshape(1, c_in, c_out)
    return np.ascontiguousarray(np.moveaxis(weight, 0, -1)).reshape(-1, c_in, c_out)


def weight_to_spconv(weight: Any, size: Sequence[int], stride: int | Sequence[int] = 1) -> np.ndarray:
    """(K, C_in, C_out) as a weight of spconv 2, (C_out, *size, C_in); see `weight_from_spconv`."""
    grid = _with_size("weight_to_spconv", weight, size)
    if _is_matrix(size, stride):
        return np.ascontiguousarray(grid).reshape(grid.shape[-1], *size, grid.shape[-2])
    return np.ascontiguousarray(np.moveaxis(grid, -1, 0))


def _is_matrix(size: Sequence[int], stride: int | Sequence[int]) -> bool:
    return prod(size) == 1 and prod(several(stride) or (stride,)) == 1


def _checked(operation: str, weight: Any, expected: str) -> np.ndarray:
    weight = np.asarray(weight)
    if not 3 <= weight.ndim <= 6:
        raise ValueError(f"{operation}: the weight has shape {weight.shape}, expected {expected} with 1 to 4 "
                         "dimensions")
    return weight


def _in_groups(operation: str, weight: np.ndarray, axis: int, groups: int) -> list[np.ndarray]:
    if groups < 1 or weight.shape[axis] % groups:
        raise ValueError(f"{operation}: the weight has {weight.shape[axis]} channels, groups is {groups}: expected a "
                         "number that divides them")
    return np.split(weight, groups, axis)


def _with_size(operation: str, weight: Any, size: Sequence[int]) -> np.ndarray:
    """The weight (K, C_in, C_out) as (*size, C_in, C_out)."""
    weight = np.asarray(weight)
    if weight.ndim != 3 or len(weight) != prod(size):
        raise ValueError(f"{operation}: the weight has shape {weight.shape}, expected ({prod(size)}, C_in, C_out) for "
                         f"a filter of size {tuple(size)}")
    return weight.reshape(*size, *weight.shape[1:])
