"""Global pooling: the whole grid of each sample as one row.

With a background the inactive cells count, as in the dense network:

    sum_b  = sum of the sites of b + (cells - sites of b) * background
    mean_b = sum_b / cells
    max_b  = the largest of the sites of b, and of the background if b has an inactive cell; NaN wins

Without one (`background=None`) they are skipped: the mean is over the sites, and a sample without a
site gives zeros.
"""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function, Tensor
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.global_max import GlobalMax
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor

MODES = ("mean", "max", "sum")


class GlobalSum(Function):
    """The sum over the cells of each sample, divided by their number if `mean`; neither need fit float16, so it is
    computed in float32 there."""

    def __init__(self, sites: ActiveSites, mean: bool):
        super().__init__()
        self.sites, self.mean = sites, mean

    def forward(self, features: Any, background: Any) -> Any:
        features, sites = array_module(features).ascontiguousarray(features), self.sites
        self.shape = None if background is None else background.shape  # (C,), or (B, C) if samples differ
        rows = None if background is None else background.reshape(-1, features.shape[1])
        return launch("cell_sums", features, sites.batch_splits, rows, sites.cells, self.mean)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        backgrounds = 0 if self.shape is None else 1 if len(self.shape) == 1 else self.shape[0]
        to_features, to_background = launch("cell_sums_backward", gradient, self.sites.batch_splits,
                                            self.sites.coordinates, backgrounds, self.sites.cells, self.mean)
        return (to_features if self.needs[0] else None,
                None if to_background is None or not self.needs[1] else to_background.reshape(self.shape))


def global_pool(x: SparseTensor, mode: str = "mean") -> Tensor:
    """The "mean", "max" or "sum" over the cells of each sample: a Tensor (B, C).

    With a background the inactive cells count, and an empty sample gives the background itself
    (times the number of cells for "sum"); without one only the sites count, and it gives zeros.

    Raises
    ------
    TypeError : x is not a SparseTensor.
    ValueError : an unknown mode.
    """
    check_mode("global_pool", mode)
    if not isinstance(x, SparseTensor):
        raise TypeError(f"global_pool: x is {type(x).__name__}, expected a SparseTensor")
    function = GlobalMax(x.sites) if mode == "max" else GlobalSum(x.sites, mean=mode == "mean")
    return function.apply(x.features, x.background)


def check_mode(operation: str, mode: str) -> None:
    """Raise ValueError unless `mode` is one of MODES."""
    if mode not in MODES:
        raise ValueError(f"{operation}: mode is {mode!r}, expected one of {', '.join(MODES)}")
