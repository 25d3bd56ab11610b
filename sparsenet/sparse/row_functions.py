"""Functions of the rows of a sparse tensor: less its background or with it again, and in another order."""

from __future__ import annotations

from typing import Any

from sparsenet.autograd import Function
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse.sites import ActiveSites


class Shifted(Function):
    """Rows (N, C) of the sites with the background added or subtracted.

    kernel : "add_sample_rows" or "subtract_sample_rows"
    """

    def __init__(self, kernel: str, sites: ActiveSites):
        super().__init__()
        self.kernel, self.sites = kernel, sites

    def forward(self, rows: Any, background: Any) -> Any:
        self.shared = background.ndim == 1  # by all samples
        return launch(self.kernel, rows, background.reshape(-1, background.shape[-1]), self.sites.coordinates)

    def backward(self, gradient: Any) -> tuple[Any, Any]:
        if not self.needs[1]:
            return gradient, None
        if self.shared:
            total = launch("segment_sum", gradient)[0]
        else:
            total = launch("segment_sum", gradient, self.sites.batch_splits)
        return gradient, total if self.kernel == "add_sample_rows" else -total


class MoveRows(Function):
    """features[order], `order` (N,) a permutation."""

    def __init__(self, order: Any):
        super().__init__()
        self.order = order

    def forward(self, features: Any) -> Any:
        return features[self.order]

    def backward(self, gradient: Any) -> Any:
        moved = array_module(gradient).empty_like(gradient)
        moved[self.order] = gradient
        return moved
