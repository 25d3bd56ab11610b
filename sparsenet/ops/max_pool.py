"""Max-pooling in which the background competes."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function
from sparsenet.backend import device_of
from sparsenet.kernels import launch
from sparsenet.ops.arguments import check_pooling
from sparsenet.sparse import Geometry, Rulebook, SparseTensor


def max_pool(x: SparseTensor, geometry: Geometry) -> SparseTensor:
    """The largest value of each window, channel by channel: a SparseTensor on the rulebook's output sites.

    In a window with an inactive cell the background competes, at the first inactive offset; with
    `background=None` inactive cells are skipped.  Cells outside the grid (padding) do not compete.  Ties go to the
    first offset, negative values are kept.  The background of the output is that of the input.

    Raises
    ------
    TypeError : x is not a SparseTensor.
    ValueError : the geometry is submanifold or its padding larger than half the window, its dimension is not the
        input's, or the window has more than 32767 cells.
    """
    check_pooling("SparseMaxPool", x, geometry)
    rulebook = x.sites.rulebook(geometry)
    features = _MaxPool(rulebook).apply(x.features, x.background)
    return SparseTensor.from_sites(features, rulebook.output_sites, x.background)


class _MaxPool(Function):
    """Features (N, C) and a background (C,), (B, C) or None to features (M, C)."""

    def __init__(self, rulebook: Rulebook):
        super().__init__()
        self.name = "SparseMaxPool"
        self.rulebook = rulebook

    def forward(self, features: Any, background: Any) -> Any:
        rows = background[None] if background is not None and background.ndim == 1 else background
        values, argmax = launch("max_pool_forward", features, rows, self.rulebook.windows,
                                self.rulebook.output_sites.coordinates)
        self.save(argmax, background is not None and background.ndim == 1)
        return values

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        argmax, one_background = self.saved
        at_once = one_background and device_of(gradient) == "cuda"  # a CPU's blocks are samples
        to_features, to_background = launch("max_pool_backward", gradient, argmax, self.rulebook,
                                            None if at_once else self.rulebook.output_sites.batch_splits)
        if not self.needs[1]:
            return to_features, None
        if one_background:
            to_background = (to_background if at_once else launch("segment_sum", to_background))[0]
        return to_features, to_background
