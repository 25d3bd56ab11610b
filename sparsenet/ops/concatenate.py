"""The channels of sparse tensors side by side, on the union of their sites."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from sparsenet.autograd import Function
from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.ops.batch_norm import rows_of
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import check_agreement, missing_rows, union


class Concatenate(Function):
    """out[site] = the row of each tensor at that site, or its background, one after the other.

    sites, rows : the union, and the rows in it of each tensor's sites (see `sparse.union`)
    """

    def __init__(self, sites: ActiveSites, rows: tuple[Any | None, ...]):
        super().__init__()
        self.sites, self.rows = sites, rows

    def forward(self, *arrays: Any) -> Any:
        """arrays : the features of all tensors, then their backgrounds."""
        features, backgrounds = arrays[: len(self.rows)], arrays[len(self.rows):]
        xp = array_module(features[0])
        self.splits = list(accumulate(part.shape[1] for part in features[:-1]))
        (out, at, below), *others = [
            (xp.ascontiguousarray(one), rows, None if background is None else rows_of(background))
            for one, rows, background in zip(features, self.rows, backgrounds, strict=True)]
        for part, rows, background in others:
            out = launch("concatenate_rows", out, part, at, rows, below, background, self.sites.coordinates)
            at = below = None  # what there is so far has all sites
        if backgrounds[0] is None:
            return out
        self.shared = [one.ndim == 1 for one in backgrounds]  # by all samples; else (B, C)
        if not all(self.shared):
            backgrounds = [xp.broadcast_to(one, (self.sites.batch_size, one.shape[-1])) for one in backgrounds]
        return out, xp.concatenate(backgrounds, axis=-1)

    def backward(self, gradient: Any, background_gradient: Any = None) -> tuple[Any, ...]:
        count = len(self.rows)
        features: list[Any] = [None] * count if gradient is None else self._split(gradient, self.rows)
        backgrounds: list[Any] = [None] * count
        if any(self.needs[count:]):
            differ = gradient is not None and any(rows is not None for rows in self.rows)
            parts = self._split(gradient, (None,) * count) if differ else [None] * count
            totals = ([None] * count if background_gradient is None
                      else array_module(background_gradient).split(background_gradient, self.splits, axis=-1))
            backgrounds = [self._to_background(i, part, total) if self.needs[count + i] else None
                           for i, (part, total) in enumerate(zip(parts, totals, strict=True))]
        return (*features, *backgrounds)

    def _to_background(self, i: int, part: Any, total: Any) -> Any:
        """The gradient of background i, from those of its channels of the output and of the output's background."""
        total = total.sum(axis=0) if total is not None and self.shared[i] and total.ndim == 2 else total
        missing = None if part is None else missing_rows(part, self.rows[i], self.sites, self.shared[i])
        total = total if missing is None else missing if total is None else total + missing
        return None if total is None else array_module(total).ascontiguousarray(total)

    def _split(self, gradient: Any, rows: tuple[Any | None, ...]) -> list[Any]:
        """The channels of each tensor, at its rows."""
        parts: list[Any] = []
        for start, at in zip(reversed(self.splits), reversed(rows[1:]), strict=True):
            first = rows[0] if len(parts) == len(rows) - 2 else None  # the others are split further
            gradient, part = launch("split_rows", gradient, first, at, start)
            parts.append(part)
        return [gradient, *reversed(parts)]


def concatenate(*tensors: SparseTensor) -> SparseTensor:
    """The channels of all tensors, in their order; active where any of them is, and a tensor without a site there has
    its background.

    The background of the result is theirs side by side, (B, C) if one of theirs is; if all are None, a missing row is
    zeros.  Differentiable in features and backgrounds.  If the sites of one contain all the others, the result has
    that very object as its sites, with its rulebooks: that of the first, if there are several.

    Raises
    ------
    TypeError : there is no tensor, one is not a SparseTensor, or dtypes differ.
    ValueError : spatial sizes or batch sizes differ, or only some have a background.
    """
    if not tensors:
        raise TypeError("concatenate: there is no tensor, expected at least one")
    for number, tensor in enumerate(tensors):
        if not isinstance(tensor, SparseTensor):
            raise TypeError(f"concatenate: tensor {number} is {type(tensor).__name__}, expected a SparseTensor: give "
                            "each as an argument of its own")
    check_agreement("concatenate", tensors, "spatial_size", "batch_size")
    sites, rows = union(*(tensor.sites for tensor in tensors))
    result = Concatenate(sites, rows).apply(*(tensor.features for tensor in tensors),
                                            *(tensor.background for tensor in tensors))
    features, background = result if isinstance(result, tuple) else (result, None)
    return SparseTensor.from_sites(features, sites, background)
