"""Means over all cells of a sample."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import BATCH, CHANNELS


def cell_sums(scene: Scene) -> Inputs:
    sites = scene.sites
    return Inputs((scene.features(), sites.batch_splits, scene.background(), sites.cells, True))


def cell_sums_backward(scene: Scene) -> Inputs:
    sites = scene.sites
    return Inputs((scene.normal(BATCH, CHANNELS), sites.batch_splits, sites.coordinates, 1, sites.cells, True))
