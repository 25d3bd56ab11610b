"""The way of a network from sites to sites, made ahead of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sparsenet.sparse.geometry import Geometry
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.union import union


@dataclass(frozen=True)
class Branches:
    """Paths that start at the same sites, and end on the union of those that they reach.

    paths : each the steps of its layers in the order of their use, Geometry or Branches; none: it stays where it is.
        The order is that in which their ends are joined
    """

    paths: tuple[tuple[Geometry | Branches, ...], ...]


def prepare(sites: ActiveSites, steps: Iterable[Geometry | Branches], backward: bool = False) -> None:
    """Build the rulebooks of a network's layers ahead of their use, and the unions of sites where its branches meet.

    steps : in the order of the layers (`net.geometries()`); each starts at the sites that the one before reached
    backward : build what backward reads, too; the first layer's input is data, whose gradient nobody asks for
    """
    _walk(sites, steps, backward, True)


def _walk(sites: ActiveSites, steps: Iterable[Geometry | Branches], backward: bool, at_input: bool
          ) -> tuple[ActiveSites, bool]:
    """Where the steps lead, and whether that is still the input."""
    for step in steps:
        if isinstance(step, Branches):
            ends = [_walk(sites, path, backward, at_input) for path in step.paths]
            sites, at_input = union(*(end for end, _ in ends)).sites, all(still for _, still in ends)
            continue
        passes = ("forward", "weight gradient") if backward else ("forward",)
        rulebook = sites.rulebook(step)
        rulebook.prepare(step.channels, *passes, *(("input gradient",) if backward and not at_input else ()))
        sites, at_input = rulebook.output_sites, False
    return sites, at_input


def main_path(steps: Iterable[Geometry | Branches]) -> list[Geometry]:
    """The filters on the first path of all branches: enough to know the sides of grids, which all paths agree on."""
    path: list[Geometry] = []
    for step in steps:
        path += main_path(step.paths[0]) if isinstance(step, Branches) else [step]
    return path
