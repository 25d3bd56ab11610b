"""The sites and rulebooks of a network, prepared ahead of a step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sparsenet.kernels import views_read
from sparsenet.sparse.geometry import Geometry
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.union import union


@dataclass(frozen=True)
class ConvolutionStep:
    """A convolution in a network.

    geometry : its filter
    channels : (C_in, C_out), which decide together with the sites which views of the rulebook its kernels read

    Raises ValueError if there are no channels.
    """

    geometry: Geometry
    channels: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.channels) < 1:
            raise ValueError(f"ConvolutionStep: channels are {self.channels[0]} -> {self.channels[1]}, expected at "
                             "least 1")


@dataclass(frozen=True)
class Branches:
    """Paths that start at the same sites and end on the union of their last sites.

    paths : the steps of each path in the order of their use; an empty path stays at its sites.  The ends are united in
        the order of the paths
    """

    paths: tuple[tuple[Step, ...], ...]


Step = Geometry | ConvolutionStep | Branches  # a Geometry is the filter of a pooling


def prepare(sites: ActiveSites, steps: Iterable[Step], backward: bool = False) -> None:
    """Build the rulebooks of a network's layers ahead of their use, and the unions of sites where its branches meet.

    steps : in the order of the layers (`net.geometries()`); each starts at the output sites of the one before
    backward : also build the views that the backward pass reads; the input of the first layer is data, whose gradient
        is not computed
    """
    _walk(sites, steps, backward, True)


def _walk(sites: ActiveSites, steps: Iterable[Step], backward: bool, at_input: bool) -> tuple[ActiveSites, bool]:
    """The sites at the end of the steps, and whether these are still the network's input."""
    for step in steps:
        if isinstance(step, Branches):
            ends = [_walk(sites, path, backward, at_input) for path in step.paths]
            sites, at_input = union(*(end for end, _ in ends)).sites, all(still for _, still in ends)
            continue
        rulebook = sites.rulebook(_geometry(step))
        channels = step.channels if isinstance(step, ConvolutionStep) else ()
        rulebook.prepare({view for kernel in _kernels(step, backward, at_input)
                          for view in views_read(kernel, rulebook, *channels)})
        sites, at_input = rulebook.output_sites, False
    return sites, at_input


def _kernels(step: Geometry | ConvolutionStep, backward: bool, at_input: bool) -> list[str]:
    """The names of the kernels that a layer launches with its rulebook."""
    if isinstance(step, ConvolutionStep):
        kernels = ["convolution_forward"]
        if backward:
            kernels.append("convolution_weight_gradient")
        if backward and not at_input:
            kernels.append("convolution_input_gradient")
        return kernels
    return ["max_pool_forward", "max_pool_backward"] if backward and not at_input else ["max_pool_forward"]


def _geometry(step: Geometry | ConvolutionStep) -> Geometry:
    return step.geometry if isinstance(step, ConvolutionStep) else step


def main_path(steps: Iterable[Step]) -> list[Geometry]:
    """The filters on the first path of all branches, which give the spatial sizes: all paths agree on these."""
    path: list[Geometry] = []
    for step in steps:
        path += main_path(step.paths[0]) if isinstance(step, Branches) else [_geometry(step)]
    return path
