"""Average pooling and sum pooling, in which inactive cells count as the background.

    mean[m] = (sum of the sites under window m  + its inactive cells * background) / its cells within the grid
    sum[m]  =  sum of the sites under window m  + its inactive cells * background

Cells outside the grid are not read: a mean is over the cells within it, as in PyTorch with count_include_pad=False.
"""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_pool, check_pooling
from sparsenet.sparse import Geometry, Rulebook, SparseTensor


class SumPool(Function):
    """Features (N, C) and a background (C,), (B, C) or None to features (M, C).

    mean : whether sums are divided by the number of cells
    """

    def __init__(self, rulebook: Rulebook, mean: bool):
        super().__init__()
        self.name = "SparseAvgPool" if mean else "SparseSumPool"
        self.rulebook, self.mean = rulebook, mean

    def forward(self, features: Any, background: Any) -> Any:
        self.shape = None if background is None else background.shape  # (C,), or (B, C) if samples differ
        rows = None if background is None else background.reshape(-1, background.shape[-1])
        return launch("sum_pool_forward", features, rows, self.rulebook.windows,
                      self.rulebook.output_sites.coordinates, self.mean)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        shared = self.shape is None or len(self.shape) == 1  # by all samples
        splits = None if shared else self.rulebook.output_sites.batch_splits
        to_features, to_background = launch("sum_pool_backward", gradient, self.rulebook, splits, self.mean,
                                            self.shape is not None, self.needs[1])
        return (to_features if self.needs[0] else None,
                to_background.reshape(self.shape) if self.needs[1] else None)


def average_pool(x: SparseTensor, geometry: Geometry) -> SparseTensor:
    """The mean over each window, channel by channel: a SparseTensor on the rulebook's output sites.

    Inactive cells count as the background, which is also that of the output; cells outside the grid (padding) do not
    count.  With `background=None` the mean is over the sites.

    Raises
    ------
    TypeError : x is not a SparseTensor.
    ValueError : the geometry is submanifold or its padding larger than half the window; its dimension is not the
        input's.
    """
    check_pooling("SparseAvgPool", x, geometry)
    return _pooled(x, geometry, True, x.background)


def sum_pool(x: SparseTensor, geometry: Geometry) -> SparseTensor:
    """The sum over each window, channel by channel: a SparseTensor on the rulebook's output sites.

    Inactive cells count as the background; that of the output is K times as large, for K cells in a window.  With
    `background=None` the sum is over the sites.

    Raises
    ------
    TypeError : x is not a SparseTensor.
    ValueError : the geometry is submanifold or padded (in the grid's inner cells and at its border, the background's
        sum would differ); its dimension is not the input's.
    """
    check_sum_pool(geometry)
    check_pooling("SparseSumPool", x, geometry)
    background = None if x.background is None else x.background * float(geometry.volume)
    return _pooled(x, geometry, False, background)


def check_sum_pool(geometry: Geometry) -> None:
    """Raise ValueError unless a sum pooling can have this filter."""
    check_pool("SparseSumPool", geometry)
    if any(geometry.padding):
        raise ValueError(f"SparseSumPool: geometry is {geometry}, expected no padding: windows at the border would sum "
                         "fewer cells, so that inactive outputs differ; use a SparseAvgPool")


def _pooled(x: SparseTensor, geometry: Geometry, mean: bool, background: Any) -> SparseTensor:
    rulebook = x.sites.rulebook(geometry)
    features = SumPool(rulebook, mean).apply(x.features, x.background)
    return SparseTensor.from_sites(features, rulebook.output_sites, background)
