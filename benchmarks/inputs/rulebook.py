"""Rulebooks: the outputs of a pooling 3/2, all else of a submanifold filter 3^3."""

from __future__ import annotations

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import PADDED_POOLING, POOLING, SUBMANIFOLD


def site_coordinates(scene: Scene) -> Inputs:
    return Inputs((scene.sites.keys, scene.sites.spatial_size))


def output_keys(scene: Scene) -> Inputs:
    return Inputs((*_of_sites(scene), scene.sites, *scene.axes(POOLING)))


def neighbours(scene: Scene) -> Inputs:
    sites = scene.sites
    return Inputs((*_of_sites(scene), sites.keys, sites.coordinates, sites, *scene.axes(SUBMANIFOLD)))


def transpose_neighbours(scene: Scene) -> Inputs:
    return Inputs((scene.rulebook(POOLING).neighbours, len(scene.sites)))


def windows(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(PADDED_POOLING)
    return Inputs((rulebook.neighbours, rulebook.output_sites.coordinates, *scene.axes(PADDED_POOLING)))


def pairs(scene: Scene) -> Inputs:
    return Inputs((*_of_sites(scene), scene.sites.keys, scene.rulebook(SUBMANIFOLD), True, *scene.axes(SUBMANIFOLD)))


def transposed_of_pairs(scene: Scene) -> Inputs:
    rulebook = scene.rulebook(POOLING)
    return Inputs((rulebook.pairs, rulebook.pair_splits, len(scene.sites)))


def pair_count(scene: Scene) -> Inputs:
    return Inputs((scene.sites.coordinates, *scene.axes(POOLING)))


def _of_sites(scene: Scene):
    return scene.sites.keys, scene.sites.coordinates, scene.sites.batch_splits
