"""Products of rows with a matrix (C_in / groups, C_out), of which each group of output channels sees its own input
channels; with one group, plain products.

Wide groups are multiplied one after another.  If there are more groups than input channels in each, as in a
depthwise convolution, the products go element by element instead, over one input channel of all groups at a time.
"""

from __future__ import annotations

from typing import Any

from sparsenet.backend import array_module
from sparsenet.kernels import launch


def times(rows: Any, matrix: Any, groups: int, kernel: str = "matmul") -> Any:
    """(C_out,) or (B, C_out): rows (C_in,) or (B, C_in) times the matrix.

    kernel : "matmul" or "matmul_by_row"
    """
    if groups == 1:
        product = launch(kernel, rows.reshape(-1, rows.shape[-1]), _contiguous(matrix))
        return product.reshape(*rows.shape[:-1], matrix.shape[1])
    if matrix.shape[0] < groups:
        return sum(x * m for x, m in zip(_spread(rows, groups, matrix.shape[1]), matrix, strict=True))
    parts = [times(x, m, 1, kernel) for x, m in zip(_slices(rows, groups), _slices(matrix, groups), strict=True)]
    return array_module(rows).concatenate(parts, axis=-1)


def times_transposed(rows: Any, matrix: Any, groups: int) -> Any:
    """(C_in,) or (B, C_in): rows (C_out,) or (B, C_out) times the transposed matrix."""
    if groups == 1:
        return times(rows, matrix.T, 1)
    if matrix.shape[0] < groups:
        shape = *rows.shape[:-1], groups, rows.shape[-1] // groups
        sums = [(rows * m).reshape(shape).sum(axis=-1) for m in matrix]
        return array_module(rows).stack(sums, axis=-1).reshape(*rows.shape[:-1], groups * len(matrix))
    parts = [times(x, m.T, 1) for x, m in zip(_slices(rows, groups), _slices(matrix, groups), strict=True)]
    return array_module(rows).concatenate(parts, axis=-1)


def outer(rows: Any, others: Any, groups: int) -> Any:
    """(C_in / groups, C_out): the outer product of rows (C_in,) and (C_out,), summed over the samples if they are
    (B, C_in) and (B, C_out)."""
    if rows.shape[-1] // groups < groups:
        products = [(x * others).reshape(-1, others.shape[-1]) for x in _spread(rows, groups, others.shape[-1])]
        return array_module(rows).stack([product.sum(axis=0) for product in products])
    parts = [x[:, None] * y[None, :] if x.ndim == 1 else launch("matmul", _contiguous(x.T), y)
             for x, y in zip(_slices(rows, groups), _slices(others, groups), strict=True)]
    return parts[0] if groups == 1 else array_module(rows).concatenate(parts, axis=1)


def _spread(rows: Any, groups: int, channels: int) -> list[Any]:
    """(C_out,) or (B, C_out) for each input channel of a group: that of the group of each output channel."""
    grouped = rows.reshape(*rows.shape[:-1], groups, rows.shape[-1] // groups)
    return [grouped[..., i].repeat(channels // groups, axis=-1) for i in range(grouped.shape[-1])]


def _slices(array: Any, groups: int) -> list[Any]:
    """The last axis cut into equal parts."""
    width = array.shape[-1] // groups
    return [array] if groups == 1 else [_contiguous(array[..., j * width:(j + 1) * width]) for j in range(groups)]


def _contiguous(array: Any) -> Any:
    return array_module(array).ascontiguousarray(array)
