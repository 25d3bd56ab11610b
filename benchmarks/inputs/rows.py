"""Runs of rows, rows of samples, and rows on unions, of 32 channels."""

from __future__ import annotations

import numpy as np

from benchmarks.inputs import Inputs, Scene
from benchmarks.inputs.scene import BATCH, CHANNELS


def segment_sum(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.sites.batch_splits))


def segment_max(scene: Scene) -> Inputs:
    return segment_sum(scene)


def add_sample_rows(scene: Scene) -> Inputs:
    return Inputs((scene.features(), scene.normal(BATCH, CHANNELS), scene.sites.coordinates))


def subtract_sample_rows(scene: Scene) -> Inputs:
    return add_sample_rows(scene)


def multiply_sample_rows(scene: Scene) -> Inputs:
    return add_sample_rows(scene)


def concatenate_rows(scene: Scene) -> Inputs:
    rows = _some(scene), _some(scene)
    return Inputs((*(scene.normal(len(some), CHANNELS) for some in rows), *rows, scene.background(), scene.background(),
                   scene.sites.coordinates))


def add_rows(scene: Scene) -> Inputs:
    return concatenate_rows(scene)


def subtract_rows(scene: Scene) -> Inputs:
    return add_rows(scene)


def multiply_rows(scene: Scene) -> Inputs:
    return add_rows(scene)


def split_rows(scene: Scene) -> Inputs:
    return Inputs((scene.features(2 * CHANNELS), _some(scene), _some(scene), CHANNELS))


def _some(scene: Scene) -> np.ndarray:
    """Three of four rows, ascending."""
    return np.flatnonzero(scene.rng.random(len(scene.sites)) < 0.75)
