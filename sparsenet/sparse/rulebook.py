"""The rulebook of a filter: which input site meets which weight for which output site."""

from __future__ import annotations

import weakref
from collections.abc import Collection
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.sparse.display import rulebook_html
from sparsenet.sparse.geometry import Geometry

if TYPE_CHECKING:
    from sparsenet.sparse.sites import ActiveSites

# In the order in which `prepare` makes them: transposed neighbours follow from either of the others.
VIEWS = ("pairs", "neighbours", "transposed_neighbours", "windows")


class Rulebook:
    """Input sites, output sites, and the pairs that a filter joins; what kernels take as a rulebook.

    For an output site m and a kernel offset k, the input cell is `m * stride - padding + k * dilation`.
    Each view is made at first use and then kept; which of them a kernel reads is its backend's choice:

    neighbours : (M, K) int32, row of the input site under offset k of output m, or -1
    transposed_neighbours : (N, K) int32, row of the output site that offset k joins to input n, or -1
    pairs : (P, 2) int32, rows [input, output], grouped by offset, by output within an offset
    pair_splits : (K+1,) int64, the pairs of offset k are pairs[pair_splits[k]:pair_splits[k+1]]
    windows : the neighbours, with -2 for cells outside the grid, which a pooling does not read; the same array if the
        filter is not padded

    Raises
    ------
    ValueError : the filter does not fit the grid.
    OverflowError : the output's sides or cells exceed the range of int32 or int64.
    """

    def __init__(self, input_sites: ActiveSites, geometry: Geometry):
        # The sites keep their rulebooks; a strong reference back would be a cycle, and its arrays would wait for the
        # garbage collector.  A rulebook that outlives its sites has an equal copy of them.
        self._sites = weakref.ref(input_sites)
        self._copy = input_sites.copy()
        self.geometry = geometry
        self.output_size = geometry.output_size(input_sites.spatial_size)
        if max(self.output_size) >= 2**31 or input_sites.batch_size * prod(self.output_size) >= 2**63:
            raise OverflowError(f"Rulebook: {geometry} leads to {input_sites.batch_size} grids of {self.output_size}: "
                                "sides must be below 2^31 and the cells of all grids below 2^63: pad less")

    @property
    def input_sites(self) -> ActiveSites:
        sites = self._sites()
        return self._copy if sites is None else sites

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, M, K): the numbers of input sites, output sites and kernel offsets."""
        return len(self.input_sites), len(self.output_sites), self.geometry.volume

    @property
    def device(self) -> str:
        """"cpu" or "cuda"."""
        return self.input_sites.device

    @property
    def submanifold(self) -> bool:
        """Whether the output sites are the input sites, so that the transposed neighbours are the neighbours with the
        offsets reversed."""
        return self.geometry.submanifold

    @property
    def non_overlapping(self) -> bool:
        """Whether each input site is in one pair at most."""
        return self.geometry.non_overlapping

    @property
    def max_pairs(self) -> int:
        """A limit of P that is known without counting."""
        return len(self.input_sites) * self.geometry.max_pairs_per_input

    @property
    def _inputs(self) -> tuple[Any, Any, Any]:
        sites = self.input_sites
        return sites.keys, sites.coordinates, sites.batch_splits

    @property
    def _axes(self) -> tuple[tuple[int, ...], ...]:
        g = self.geometry
        return self.input_sites.spatial_size, self.output_size, g.size, g.stride, g.padding, g.dilation

    @property
    def output_sites(self) -> ActiveSites:
        """The M sites that at least one kernel offset joins to an input site."""
        return self.input_sites if self.geometry.submanifold else self._output_sites

    @cached_property
    def _output_sites(self) -> ActiveSites:
        sites = self.input_sites
        keys = launch("output_keys", *self._inputs, sites, *self._axes)
        output = type(sites).from_keys(keys, self.output_size, sites.batch_size)
        output._set_origin(sites, self._copy, self.geometry)
        return output

    @cached_property
    def neighbours(self) -> Any:
        """(M, K) int32, see the class."""
        sites, output = self.input_sites, self.output_sites
        return launch("neighbours", *self._inputs, output.keys, output.coordinates, sites, *self._axes)

    @cached_property
    def transposed_neighbours(self) -> Any:
        """(N, K) int32, see the class."""
        if self.geometry.submanifold:  # n sees m under k exactly if m sees n under the opposite offset
            return self.neighbours[:, ::-1]
        if "_pairs" in vars(self) and "neighbours" not in vars(self):
            return launch("transposed_of_pairs", self.pairs, self.pair_splits, len(self.input_sites))
        return launch("transpose_neighbours", self.neighbours, len(self.input_sites))

    @property
    def windows(self) -> Any:
        """(M, K) int32, see the class."""
        return self._windows if any(self.geometry.padding) else self.neighbours

    @cached_property
    def _windows(self) -> Any:
        return launch("windows", self.neighbours, self.output_sites.coordinates, *self._axes)

    @cached_property
    def _pairs(self) -> tuple[Any, Any]:
        return launch("pairs", *self._inputs, self.output_sites.keys, self, self.geometry.submanifold,
                      *self._axes)

    @property
    def pairs(self) -> Any:
        """(P, 2) int32, see the class."""
        return self._pairs[0]

    @property
    def pair_splits(self) -> Any:
        """(K+1,) int64, see the class."""
        return self._pairs[1]

    @cached_property
    def reversed_pairs(self) -> Any:
        """(P, 2) int32: rows [output, input] of the pairs, in their order; of a `ReversedRulebook`."""
        return array_module(self.pairs).ascontiguousarray(self.pairs[:, ::-1])

    @cached_property
    def pair_count(self) -> int:
        """P, counted without making the view if possible."""
        if "_pairs" not in vars(self) and "neighbours" in vars(self):
            return int(array_module(self.neighbours).count_nonzero(self.neighbours >= 0))
        if "_pairs" in vars(self) or self.geometry.submanifold:
            return len(self.pairs)
        return launch("pair_count", self.input_sites.coordinates, *self._axes)

    def prepare(self, views: Collection[str]) -> None:
        """Make these views now, by their names in VIEWS."""
        for name in VIEWS:
            if name in views:
                getattr(self, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy holds the sites and the geometry; the views are made again at first use."""
        return type(self), (self.input_sites, self.geometry)

    def _repr_html_(self) -> str:
        """The HTML that notebooks show."""
        return rulebook_html(self)

    def __repr__(self) -> str:
        return (f"Rulebook({self.geometry}: {len(self.input_sites)} sites of {self.input_sites.spatial_size} -> "
                f"{len(self.output_sites)} of {self.output_size})")
