"""Channels of sparse tensors side by side, on the union of their sites."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from sparsenet.autograd import Function
from sparsenet.backend import array_module
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.tensor import SparseTensor
from sparsenet.sparse.union import check_agreement, gather, missing_rows, spread, union


class Concatenate(Function):
    """out[row] = each tensor's row there, or its background, one after the other.

    sites : the union; rows : of each, the rows in it that its sites have; None: all of them
    Takes the features of all, then their backgrounds.
    """

    def __init__(self, sites: ActiveSites, rows: tuple[Any | None, ...]):
        super().__init__()
        self.sites, self.rows = sites, rows

    def forward(self, *arrays: Any) -> Any:
        features, backgrounds = arrays[: len(self.rows)], arrays[len(self.rows):]
        xp = array_module(features[0])
        self.splits = list(accumulate(part.shape[1] for part in features[:-1]))
        given = zip(features, self.rows, backgrounds, strict=True)
        out = xp.concatenate([spread(*one, self.sites) for one in given], axis=1)
        if backgrounds[0] is None:
            return out
        self.shared = [one.ndim == 1 for one in backgrounds]  # else (B, C): samples differ
        if not all(self.shared):
            backgrounds = [xp.broadcast_to(one, (self.sites.batch_size, one.shape[-1])) for one in backgrounds]
        return out, xp.concatenate(backgrounds, axis=-1)

    def backward(self, gradient: Any, ground: Any = None) -> tuple[Any, ...]:
        count = len(self.rows)
        parts, grounds = ([None] * count if whole is None else array_module(whole).split(whole, self.splits, axis=-1)
                          for whole in (gradient, ground))
        features: list[Any] = [None] * count
        backgrounds: list[Any] = [None] * count
        for i, (part, below, rows) in enumerate(zip(parts, grounds, self.rows, strict=True)):
            part = part if part is None else array_module(part).ascontiguousarray(part)
            if part is not None and self.needs[i]:
                features[i] = gather(part, rows)
            if self.needs[count + i]:
                total = below.sum(axis=0) if below is not None and self.shared[i] and below.ndim == 2 else below
                missing = None if part is None else missing_rows(part, rows, self.sites, self.shared[i])
                total = total if missing is None else missing if total is None else total + missing
                backgrounds[i] = None if total is None else array_module(total).ascontiguousarray(total)
        return (*features, *backgrounds)


def concatenate(*tensors: SparseTensor) -> SparseTensor:
    """The channels of all, in their order: active where one of them is, and where one has no site its background.

    The background of the result holds theirs side by side, (B, C) if one of theirs is.  Where all are None, a missing
    row is zeros.  Differentiable in features and backgrounds.  If one of them has all the sites, the result shares
    them, with the rulebooks they hold: the first's if several have.

    Raises
    ------
    TypeError : there is none, one is no SparseTensor, or dtypes differ.
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
