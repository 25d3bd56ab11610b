"""The sites and rulebooks of a network, prepared ahead of a step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sparsenet.kernels import views_read
from sparsenet.sparse.geometry import Geometry
from sparsenet.sparse.imaging import DepthImaging, images_of
from sparsenet.sparse.reversed_rulebook import way_back
from sparsenet.sparse.sites import ActiveSites
from sparsenet.sparse.spacing import Spacing, spaced
from sparsenet.sparse.union import union
from sparsenet.sparse.upsampling import Upsampling, copies_of


@dataclass(frozen=True)
class ConvolutionStep:
    """A convolution in a network.

    geometry : its filter
    channels : (C_in, C_out), which decide together with the sites which views of the rulebook its kernels read
    inverse : it goes back over the rulebook of an earlier filter of this geometry
    groups : of the channels

    Raises ValueError if there are no channels.
    """

    geometry: Geometry
    channels: tuple[int, int]
    inverse: bool = False
    groups: int = 1

    def __post_init__(self) -> None:
        if min(self.channels) < 1:
            raise ValueError(f"ConvolutionStep: channels are {self.channels[0]} -> {self.channels[1]}, expected at "
                             "least 1")


@dataclass(frozen=True)
class PoolingStep:
    """An average or sum pooling in a network; a max-pooling is its Geometry alone.

    geometry : its filter
    """

    geometry: Geometry


@dataclass(frozen=True)
class Branches:
    """Paths that start at the same sites and end on the union of their last sites.

    paths : the steps of each path in the order of their use; an empty path stays at its sites.  The ends are united in
        the order of the paths
    """

    paths: tuple[tuple[Step, ...], ...]


Filter = Geometry | ConvolutionStep | PoolingStep  # a Geometry is the filter of a max-pooling
NewGrid = Upsampling | Spacing | DepthImaging  # leads to sites of its own, from which no way leads back
Step = Filter | NewGrid | Branches


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
        if isinstance(step, Upsampling):
            sites, at_input = copies_of(sites, step).sites, False
            continue
        if isinstance(step, Spacing):  # the same features
            sites = spaced(sites, step)
            continue
        if isinstance(step, DepthImaging):  # images of the input are data, too
            sites = images_of(sites, step).sites
            continue
        inverse = isinstance(step, ConvolutionStep) and step.inverse
        rulebook = way_back(sites, _geometry(step)) if inverse else sites.rulebook(_geometry(step))
        channels = _channels(step)
        rulebook.prepare({view for kernel in _kernels(step, backward, at_input)
                          for view in views_read(kernel, rulebook, *channels)})
        sites, at_input = rulebook.output_sites, False
    return sites, at_input


def _kernels(step: Filter, backward: bool, at_input: bool) -> list[str]:
    """The names of the kernels that a layer launches with its rulebook."""
    if isinstance(step, ConvolutionStep):
        kernels = ["convolution_forward"]
        if backward:
            kernels.append("convolution_weight_gradient")
        if backward and not at_input:
            kernels.append("convolution_input_gradient")
        return kernels if step.groups == 1 else ["grouped_" + kernel for kernel in kernels]
    pool = "sum_pool" if isinstance(step, PoolingStep) else "max_pool"
    return [f"{pool}_forward", f"{pool}_backward"] if backward and not at_input else [f"{pool}_forward"]


def _channels(step: Filter) -> tuple[int, ...]:
    """The channels, and groups, that `views_read` takes of the layer's kernels."""
    if isinstance(step, ConvolutionStep):
        return step.channels if step.groups == 1 else (*step.channels, step.groups)
    return ()


def _geometry(step: Filter) -> Geometry:
    return step if isinstance(step, Geometry) else step.geometry


def main_steps(steps: Iterable[Step]) -> list[Filter | NewGrid]:
    """The filters and the new grids on the first path of all branches, which give the spatial sizes: all
    paths agree on these."""
    path: list[Filter | NewGrid] = []
    for step in steps:
        path += main_steps(step.paths[0]) if isinstance(step, Branches) else [step]
    return path


def main_path(steps: Iterable[Step]) -> list[Geometry]:
    """The geometries of `main_steps`, without those that an inverse convolution goes back over, nor what is between.

    Raises ValueError if there is a new grid, through which the input's size does not follow.
    """
    path: list[Geometry] = []
    for step in main_steps(steps):
        if isinstance(step, NewGrid):
            name = {Upsampling: "an Upsample", Spacing: "a TransposedConv", DepthImaging: "DepthImages"}[type(step)]
            raise ValueError(f"field_for: the network has {name}, expected filters alone: no size of the input "
                             "follows from that of the output, so set the network's field")
        if isinstance(step, ConvolutionStep) and step.inverse:
            del path[_latest(path, step.geometry):]
        else:
            path.append(_geometry(step))
    return path


class Course:
    """The spatial size along a network, filter by filter.

    size : (D,), at first of the input
    """

    def __init__(self, size: tuple[int, ...]):
        self.size = size
        self._passed: list[Geometry] = []
        self._sizes: list[tuple[int, ...]] = []  # before each of them

    def follow(self, steps: Iterable[Step]) -> tuple[int, ...]:
        """The size behind these steps.

        Raises ValueError if a filter is larger than its grid, paths of a block lead to different grids, or there is no
        filter to go back over.
        """
        for step in steps:
            if isinstance(step, Branches):
                self._branch(step)
            elif isinstance(step, NewGrid):
                self.size = step.output_size(self.size)
                self._passed, self._sizes = [], []
            elif isinstance(step, ConvolutionStep) and step.inverse:
                place = _latest(self._passed, step.geometry)
                self.size = self._sizes[place]
                del self._passed[place:], self._sizes[place:]
            else:
                self._sizes.append(self.size)
                self._passed.append(_geometry(step))
                self.size = _geometry(step).output_size(self.size)
        return self.size

    def _branch(self, step: Branches) -> None:
        courses = []
        for path in step.paths:
            course = Course(self.size)
            course._passed, course._sizes = list(self._passed), list(self._sizes)
            course.follow(path)
            courses.append(course)
        ends = dict.fromkeys(course.size for course in courses)
        if len(ends) > 1:
            words = " and ".join("x".join(map(str, end)) for end in ends)
            raise ValueError(f"from a grid of {'x'.join(map(str, self.size))} its paths lead to grids of {words}: give "
                             "the shortcut the stride of the layers, or end them with an inverse_convolution back")
        vars(self).update(vars(courses[0]))


def _latest(passed: list[Geometry], geometry: Geometry) -> int:
    """The place of the last filter of that geometry.  Raises ValueError if there is none."""
    for place in reversed(range(len(passed))):
        if passed[place] == geometry:
            return place
    raise ValueError(f"InverseConv: no layer before it, or since an Upsample, has the filter that it goes back over, "
                     f"{geometry}")
