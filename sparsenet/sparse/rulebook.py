"""Which input site meets which weight for which output site."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse.geometry import Geometry

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites


class Rulebook:
    """Input sites, output sites, and the pairs that a filter joins.

    For an output site m and a kernel offset k, the input cell is
    `m * stride - padding + k * dilation`.  Each view is made when it is first asked for and
    then kept:

    neighbours : (M, K) int32, row of the input site under offset k of output m, or -1
    transposed_neighbours : (N, K) int32, row of the output site that offset k joins to input n, or -1
    pairs : (P, 2) int32, rows [input, output], grouped by offset, by output within an offset
    pair_splits : (K+1,) int64, the pairs of offset k are pairs[pair_splits[k]:pair_splits[k+1]]
    """

    def __init__(self, input_sites: ActiveSites, geometry: Geometry):
        # The sites keep their rulebooks; a strong reference back would be a cycle, and its arrays
        # would wait for the garbage collector.  Who outlives the sites gets an equal object.
        self._sites = weakref.ref(input_sites)
        self._copy = input_sites.copy()
        self.geometry = geometry
        self.output_size = geometry.output_size(input_sites.spatial_size)

    @property
    def input_sites(self) -> ActiveSites:
        sites = self._sites()
        return self._copy if sites is None else sites

    @property
    def _axes(self) -> tuple[tuple[int, ...], ...]:
        g = self.geometry
        return self.input_sites.spatial_size, self.output_size, g.size, g.stride, g.padding, g.dilation

    @property
    def output_sites(self) -> ActiveSites:
        """The sites that at least one kernel offset joins to an input site."""
        return self.input_sites if self.geometry.submanifold else self._output_sites

    @cached_property
    def _output_sites(self) -> ActiveSites:
        sites = self.input_sites
        keys = launch("output_keys", sites.keys, sites.batch_splits, lambda: sites.hash_table, *self._axes)
        return type(sites).from_keys(keys, self.output_size, sites.batch_size)

    @cached_property
    def neighbours(self) -> Any:
        sites = self.input_sites
        return launch("neighbours", sites.keys, self.output_sites.coordinates, lambda: sites.hash_table, *self._axes)

    @cached_property
    def transposed_neighbours(self) -> Any:
        if self.geometry.submanifold:  # n sees m under k exactly where m sees n under the opposite offset
            return self.neighbours[:, ::-1]
        return launch("transpose_neighbours", self.neighbours, len(self.input_sites))

    @cached_property
    def _pairs(self) -> tuple[Any, Any]:
        return launch("pairs", self.neighbours)

    @property
    def pairs(self) -> Any:
        return self._pairs[0]

    @property
    def pair_splits(self) -> Any:
        return self._pairs[1]

    @cached_property
    def pair_count(self) -> int:
        """P, without making the list of pairs."""
        return int(array_module(self.neighbours).count_nonzero(self.neighbours >= 0))

    def __repr__(self) -> str:
        return (f"Rulebook({self.geometry}: {len(self.input_sites)} sites of {self.input_sites.spatial_size} -> "
                f"{len(self.output_sites)} of {self.output_size})")


def prepare(sites: ActiveSites, geometries: Iterable[Geometry]) -> None:
    """Build the rulebooks of a chain of layers ahead of their use.

    geometries : in the order of the layers; each starts at the sites that the one before reached
    """
    for geometry in geometries:
        rulebook = sites.rulebook(geometry)
        _ = rulebook.neighbours
        sites = rulebook.output_sites
