"""Checks of arguments that several operations share: Tensors, vectors by channel, filters of poolings."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Tensor
from sparsenet.sparse import Geometry, SparseTensor


def check_tensor(operation: str, name: str, value: Any, expected: str = "a Tensor") -> None:
    """Raise TypeError unless the argument of that name is a Tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{operation}: {name} is {type(value).__name__}, expected {expected}: wrap an array with "
                        "Tensor(array)")


def check_by_channel(operation: str, features: Tensor, vectors: dict[str, Tensor]) -> None:
    """Raise unless features are rows (N, C) and the vectors (C,), by name, have their dtype."""
    if features.ndim != 2:
        raise ValueError(f"{operation}: x has shape {features.shape}, expected (B, C)")
    for name, tensor in vectors.items():
        if tensor.shape != features.shape[1:]:
            raise ValueError(f"{operation}: x has {features.shape[1]} channels, {name} has shape {tensor.shape}: build "
                             f"the layer with channels={features.shape[1]}")
        if tensor.dtype != features.dtype:
            raise TypeError(f"{operation}: {name} is {tensor.dtype}, x is {features.dtype}: convert one of them")


def check_pooling(operation: str, x: SparseTensor, geometry: Geometry) -> None:
    """Raise TypeError unless the input of a pooling is a SparseTensor, ValueError if the filter does not fit."""
    if not isinstance(x, SparseTensor):
        raise TypeError(f"{operation}: the input is {type(x).__name__}, expected a SparseTensor")
    check_pool(operation, geometry, x.spatial_size)


def check_pool(operation: str, geometry: Geometry, spatial_size: tuple[int, ...] = ()) -> None:
    """Check that each window of a pooling has a cell of its grid.

    spatial_size : of the grid; empty if it is not known yet

    Raises ValueError if the filter is submanifold or padded by more than half a window, as in PyTorch, or if dilated
    windows may step over a whole grid.
    """
    if geometry.submanifold:
        raise ValueError(f"{operation}: geometry is {geometry}, expected one that is not submanifold")
    half = tuple((d * (k - 1) + 1) // 2 for k, d in zip(geometry.size, geometry.dilation, strict=True))
    if any(p > most for p, most in zip(geometry.padding, half, strict=True)):
        raise ValueError(f"{operation}: padding is {geometry.padding}, expected at most {half}, half a window: use "
                         "less, or larger windows")
    axes = zip(spatial_size, geometry.padding, geometry.dilation, strict=False)
    if any(padding and dilation > side for side, padding, dilation in axes):
        raise ValueError(f"{operation}: windows of dilation {geometry.dilation} may step over a padded grid of "
                         f"{spatial_size}, expected dilations of at most its sides: use no padding")
