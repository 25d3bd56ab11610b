"""Concatenation and addition of sparse tensors: rows of the memory-bound passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import reference
from benchmarks.timing import Case, case, inner
from sparsenet import ops
from sparsenet.autograd import Tensor
from sparsenet.backend import to_device
from sparsenet.sparse import ActiveSites, SparseTensor, union


def add_unions(passes: dict[str, tuple[int, Case]], level: ActiveSites, features: np.ndarray,
               rng: np.random.Generator, device: str) -> None:
    """Concatenation and addition of tensors on the same sites, and of tensors that lack a tenth of their union's, whose
    rows of the union (int64) are read too.

    passes : gets the necessary bytes and the case of each, by name
    """
    keys, channels = to_device(level.keys, "cpu"), features.shape[1]
    fewer = [ActiveSites.from_keys(to_device(keys[rng.random(len(keys)) < 0.9], device), level.spatial_size,
                                   level.batch_size) for _ in range(2)]
    for suffix, sites in {"": (level, level), ", other sites": fewer}.items():
        arrays = [features[:len(one)] for one in sites]
        leaves = [Tensor(to_device(array, device), requires_grad=True) for array in arrays]
        merged, rows = union(*sites)
        at = [None if one is None else to_device(one, "cpu") for one in rows]
        joined = rng.standard_normal((len(merged), 2 * channels), np.float32)
        upstream, coordinates = to_device(joined, device), to_device(merged.coordinates, "cpu")

        def concatenated(tensors: list[Tensor] = leaves, sites: Any = sites) -> Tensor:
            return ops.concatenate(*(SparseTensor.from_sites(x, on, None)
                                     for x, on in zip(tensors, sites, strict=True))).features

        def added(x: Tensor = leaves[0], y: Tensor = leaves[1], sites: Any = sites) -> Tensor:
            return (SparseTensor.from_sites(x, sites[0], None) + SparseTensor.from_sites(y, sites[1], None)).features

        def backward(y: Tensor, upstream: Any = upstream) -> None:
            y.backward(upstream)

        for name, forward, kernel in (("concatenation", concatenated, "concatenate_rows"),
                                      ("addition", added, "add_rows")):
            expected = reference.specified(kernel, *arrays, *at, None, None, coordinates)
            reference.check(f"{name}{suffix}", forward().numpy(), expected)
        backward(concatenated())
        for leaf, back in zip(leaves, reference.specified("split_rows", joined, *at, channels), strict=True):
            reference.check(f"concatenation, backward{suffix}", to_device(leaf.grad, "cpu"), back)
            leaf.grad = None
        read = sum(array.nbytes for array in (*arrays, *(one for one in at if one is not None)))
        passes[f"concatenation, forward{suffix}"] = read + joined.nbytes, case(concatenated, None, device)
        passes[f"concatenation, backward{suffix}"] = read + joined.nbytes, case(
            backward, lambda make=concatenated, leaves=leaves: make([inner(leaf) for leaf in leaves]), device)
        passes[f"addition{suffix}"] = read + joined.nbytes // 2, case(added, None, device)
