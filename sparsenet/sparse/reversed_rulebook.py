"""A rulebook the other way round, as a layer needs it that goes back over an earlier one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sparsenet.sparse.geometry import Geometry
from sparsenet.sparse.rulebook import Rulebook
from sparsenet.sparse.sites import ActiveSites


def way_back(sites: ActiveSites, geometry: Geometry) -> ReversedRulebook:
    """The rulebook from these sites back to those that a convolution or pooling of that geometry made them from.

    Raises ValueError if these sites were made otherwise.
    """
    origin = sites.origin
    if origin is None or origin.geometry != geometry:
        made = "were not made by a strided layer" if origin is None else f"were made by {origin.geometry}"
        raise ValueError(f"InverseConv: the sites of its input {made}; expected those of the layer that it goes "
                         f"back over, {geometry}: between the two, use only layers that keep the sites, such as "
                         "SubmanifoldConv")
    return ReversedRulebook(origin.sites.rulebook(geometry))


class ReversedRulebook:
    """The pairs of a rulebook the other way round, from its M output sites to its N input sites: what kernels take as a
    rulebook whose inputs are those M sites.

    Raises ValueError if the rulebook is submanifold, whose output sites are its input sites.
    """

    submanifold = False
    device = property(lambda self: self._forward.device)
    max_pairs = property(lambda self: self._forward.max_pairs)
    pair_count = property(lambda self: self._forward.pair_count)
    pair_splits = property(lambda self: self._forward.pair_splits)
    input_sites = property(lambda self: self._forward.output_sites)
    output_sites = property(lambda self: self._forward.input_sites)

    def __init__(self, rulebook: Rulebook):
        if rulebook.submanifold:
            raise ValueError(f"ReversedRulebook: {rulebook.geometry} is submanifold: its output sites are its input "
                             "sites, there is no way back")
        self._forward = rulebook

    @property
    def shape(self) -> tuple[int, int, int]:
        """(M, N, K) of the rulebook."""
        inputs, outputs, offsets = self._forward.shape
        return outputs, inputs, offsets

    @property
    def non_overlapping(self) -> bool:
        """Whether each site that is read is in one pair at most: with one offset."""
        return self._forward.geometry.volume == 1

    @property
    def neighbours(self) -> Any:
        """(N, K) int32: the transposed neighbours of the rulebook."""
        return self._forward.transposed_neighbours

    @property
    def transposed_neighbours(self) -> Any:
        """(M, K) int32: the neighbours of the rulebook."""
        return self._forward.neighbours

    @property
    def pairs(self) -> Any:
        """(P, 2) int32: rows [output, input] of the rulebook, in its order, which is that of the inputs as well."""
        return self._forward.reversed_pairs

    def prepare(self, views: Collection[str]) -> None:
        """Make these views now, by their names in VIEWS."""
        turned = {"neighbours": "transposed_neighbours", "transposed_neighbours": "neighbours", "pairs": "pairs"}
        self._forward.prepare({turned[name] for name in views})
        if "pairs" in views:
            _ = self.pairs

    def __repr__(self) -> str:
        return f"Reversed{self._forward!r}"
