"""A row for each sample, spread over its grid."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_tensor
from sparsenet.sparse import ActiveSites, SparseTensor


class Broadcast(Function):
    """Rows (B, C) to the rows of the sites (N, C): each has that of its sample."""

    def __init__(self, sites: ActiveSites):
        super().__init__()
        self.sites = sites

    def forward(self, rows: Any) -> Any:
        return rows[self.sites.coordinates[:, 0]]

    def backward(self, gradient: Any) -> Any:
        return launch("segment_sum", gradient, self.sites.batch_splits)


def broadcast(rows: Tensor, x: SparseTensor) -> SparseTensor:
    """The row of each sample in all cells of its grid: a SparseTensor of C channels on the sites of x.

    The background is the rows, (B, C), so that inactive cells hold them too: in a dense network, rows[:, :, None, None]
    expanded to the grid.  If x has background None, so has the result.  Concatenated with x, it tells each site about
    the whole sample: `concatenate(x, broadcast(global_pool(x), x))`.

    rows : Tensor (B, C), in the dtype of x; differentiable

    Raises
    ------
    TypeError : x is not a SparseTensor, rows is not a Tensor; their dtypes or devices differ.
    ValueError : rows does not have one row for each sample of x.
    """
    if not isinstance(x, SparseTensor):
        raise TypeError(f"broadcast: x is {type(x).__name__}, expected a SparseTensor")
    check_tensor("broadcast", "rows", rows, "a Tensor (B, C)")
    if rows.ndim != 2 or rows.shape[0] != x.batch_size:
        raise ValueError(f"broadcast: rows has shape {rows.shape}, expected ({x.batch_size}, C): one row for each "
                         "sample of x")
    if rows.dtype != x.dtype or rows.device != x.device:
        raise TypeError(f"broadcast: rows is {rows.dtype} on {rows.device}, x is {x.dtype} on {x.device}: convert one "
                        "of them")
    return x.with_features(Broadcast(x.sites).apply(rows), None if x.background is None else rows)
