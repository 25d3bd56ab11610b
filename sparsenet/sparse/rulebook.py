"""Which input site meets which weight for which output site."""

from __future__ import annotations

import weakref
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from sparsenet.backend import array_module
from sparsenet.kernels import launch
from sparsenet.kernels.convolution.view import forward_way, weight_gradient_way
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
        if max(self.output_size) >= 2**31 or input_sites.batch_size * prod(self.output_size) >= 2**63:
            raise OverflowError(f"Rulebook: {geometry} leads to {input_sites.batch_size} grids of {self.output_size}: "
                                "sides must be below 2^31 and the cells of all grids below 2^63: pad less")

    @property
    def input_sites(self) -> ActiveSites:
        sites = self._sites()
        return self._copy if sites is None else sites

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
        """The sites that at least one kernel offset joins to an input site."""
        return self.input_sites if self.geometry.submanifold else self._output_sites

    @cached_property
    def _output_sites(self) -> ActiveSites:
        sites = self.input_sites
        keys = launch("output_keys", *self._inputs, lambda: sites.hash_table, *self._axes)
        return type(sites).from_keys(keys, self.output_size, sites.batch_size)

    @cached_property
    def neighbours(self) -> Any:
        sites, output = self.input_sites, self.output_sites
        return launch("neighbours", *self._inputs, output.keys, output.coordinates, lambda: sites.hash_table,
                      *self._axes)

    @cached_property
    def transposed_neighbours(self) -> Any:
        if self.geometry.submanifold:  # n sees m under k exactly where m sees n under the opposite offset
            return self.neighbours[:, ::-1]
        if "_pairs" in vars(self) and "neighbours" not in vars(self):
            return launch("transposed_of_pairs", self.pairs, self.pair_splits, len(self.input_sites))
        return launch("transpose_neighbours", self.neighbours, len(self.input_sites))

    @cached_property
    def _pairs(self) -> tuple[Any, Any]:
        return launch("pairs", *self._inputs, self.output_sites.keys, lambda: self.neighbours,
                      self.geometry.submanifold, *self._axes)

    @property
    def pairs(self) -> Any:
        return self._pairs[0]

    @property
    def pair_splits(self) -> Any:
        return self._pairs[1]

    @cached_property
    def pair_count(self) -> int:
        """P; counted without making a view of them where that can be done."""
        if "_pairs" not in vars(self) and "neighbours" in vars(self):
            return int(array_module(self.neighbours).count_nonzero(self.neighbours >= 0))
        if "_pairs" in vars(self) or self.geometry.submanifold:
            return len(self.pairs)
        return launch("pair_count", self.input_sites.coordinates, *self._axes)

    def way(self, of: str, c_in: int, c_out: int) -> str:
        """The view that a pass of a convolution goes through: "outputs" (neighbours), "inputs" (transposed
        neighbours) or "pairs", whichever is cheapest on a CPU (see `sparsenet.kernels.convolution.view`); always
        a table on a GPU, whose tiles skip empty offsets.

        of : "forward", "input gradient" or "weight gradient"
        """
        if self.input_sites.device != "cpu":
            return "inputs" if of == "input gradient" else "outputs"
        inputs, outputs, offsets = len(self.input_sites), len(self.output_sites), self.geometry.volume
        if of == "weight gradient":
            way = weight_gradient_way(self.pair_count, inputs, outputs, offsets, c_in, c_out)
            return "outputs" if way == "inputs" and self.geometry.submanifold else way  # the same table, reversed
        rows, channels, table = (outputs, (c_in, c_out), "outputs") if of == "forward" else (
            inputs, (c_out, c_in), "inputs")
        if forward_way(outputs, rows, offsets, *channels) != "pairs":  # not with one pair for each output either
            return table
        if forward_way(inputs * self.geometry.most_pairs, rows, offsets, *channels) == "pairs":  # with all there can be
            return "pairs"
        return "pairs" if forward_way(self.pair_count, rows, offsets, *channels) == "pairs" else table

    def prepare(self, channels: tuple[int, int] | None, *passes: str) -> None:
        """Make the views that a layer will read in those passes (see `way`; none named: forward): a convolution from
        C_in to C_out channels, or (None) pooling."""
        passes = passes or ("forward",)
        if channels is not None:
            views = {self.way(of, *channels) for of in passes}
        else:  # of pooling, backward reads them on a GPU alone
            collects = "input gradient" in passes and self.input_sites.device != "cpu"
            views = {"outputs", "inputs"} if collects else {"outputs"}
        for view, name in (("pairs", "pairs"), ("outputs", "neighbours"), ("inputs", "transposed_neighbours")):
            if view in views:
                getattr(self, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy starts anew from its sites: the views are made again when they are asked for."""
        return type(self), (self.input_sites, self.geometry)

    def __repr__(self) -> str:
        return (f"Rulebook({self.geometry}: {len(self.input_sites)} sites of {self.input_sites.spatial_size} -> "
                f"{len(self.output_sites)} of {self.output_size})")
