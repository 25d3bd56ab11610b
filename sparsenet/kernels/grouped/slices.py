"""Grouped convolution by the dense kernels, group after group, on slices of the channels.

    features (N, C_in)          | group 0 | group 1 | ...          each slice is copied, so that its rows lie together
    weights (K, C_in / G, C_out)            | group 0 | group 1 | ...
    out (M, C_out)              | group 0 | group 1 | ...          and joined

The choice of the view, tensor cores, and the bits are those of the dense kernels for C_in / G to C_out / G channels.
To gather rows for a product of a few channels costs more than to multiply them, so narrow groups have their own loops.
"""

from __future__ import annotations

from typing import Any

from sparsenet.backend import array_module
from sparsenet.kernels.table import launch, views_read

NARROW = 64  # weights of a group and an offset, up to which loops are taken as faster than products


def is_narrow(c_in: int, c_out: int, groups: int, limit: int = NARROW) -> bool:
    """Whether groups of that many channels in all go through loops of their own.

    limit : of the weights of a group and an offset
    """
    return (c_in // groups) * (c_out // groups) <= limit


def forward(kernel: str, features: Any, weights: Any, rulebook: Any, constant: Any, groups: int, backend: str) -> Any:
    """(M, C_out); kernel : "convolution_forward" or "convolution_forward_by_row"."""
    parts = zip(*(_slices(array, groups) for array in (features, weights, constant)), strict=True)
    return array_module(features).concatenate(
        [launch(kernel, x, w, rulebook, b, backend=backend) for x, w, b in parts], axis=1)


def input_gradient(gradient: Any, weights: Any, rulebook: Any, groups: int, backend: str) -> Any:
    """(N, C_in)"""
    parts = zip(_slices(gradient, groups), _slices(weights, groups), strict=True)
    return array_module(gradient).concatenate(
        [launch("convolution_input_gradient", g, w, rulebook, backend=backend) for g, w in parts], axis=1)


def weight_gradient(features: Any, gradient: Any, rulebook: Any, groups: int, backend: str) -> Any:
    """(K, C_in / G, C_out)"""
    parts = zip(_slices(features, groups), _slices(gradient, groups), strict=True)
    return array_module(features).concatenate(
        [launch("convolution_weight_gradient", x, g, rulebook, backend=backend) for x, g in parts], axis=2)


def reads(kernel: str, rulebook: Any, c_in: int, c_out: int, groups: int, backend: str) -> tuple[str, ...]:
    """The views of the rulebook that the dense kernel reads for a slice."""
    return tuple(views_read(kernel, rulebook, c_in // groups, c_out // groups, backend=backend))


def _slices(array: Any, groups: int) -> list[Any]:
    """The last axis cut into equal parts; None for each if it is None."""
    if array is None:
        return [None] * groups
    width, contiguous = array.shape[-1] // groups, array_module(array).ascontiguousarray
    return [contiguous(array[..., j * width : (j + 1) * width]) for j in range(groups)]
